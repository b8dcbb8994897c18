"""Where images come from, before they are decoded: files in a folder, with what they show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from ccdiff.data.files.decode import read_file
from ccdiff.data.files.listing import fingerprint
from ccdiff.errors import UserError

__all__ = ["FileImages", "Images", "Source", "every_nth"]


class Images(Protocol):
    """Encoded images by number."""

    names: Sequence[str]

    def fingerprint(self) -> str:
        """A hash that changes when any image does."""

    def reader(self, i: int) -> Callable[[], bytes]:
        """What gives the bytes of image ``i`` and may be called in any thread."""


class FileImages:
    """Files inside a folder.

    Arguments:
        root: The folder.
        names: Paths relative to it.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root = root.resolve()
        self.names = names

    def fingerprint(self) -> str:
        """Changes with any name, size or modification time."""
        return fingerprint(self.root, self.names)

    def reader(self, i: int) -> Callable[[], bytes]:
        """Reads file ``i``, unless it lies outside the folder."""
        return partial(read_file, self.root, self.names[i])


@dataclass(frozen=True)
class Source:
    """Encoded images with what they show.

    Arguments:
        title: Names the prepared copy for a human reader.
        images: N encoded images.
        labels: int64 [N] class indices or uint8 [N, K] attribute bits.
        label_names: Of the classes or attributes.
        heldout: Which images are held out, bool [N].
    """

    title: str
    images: Images
    labels: np.ndarray
    label_names: tuple[str, ...]
    heldout: np.ndarray

    def __post_init__(self) -> None:
        if self.heldout.all() or not self.heldout.any():
            part = "training" if self.heldout.all() else "held-out"
            raise UserError(
                f"{self.title} has {len(self.heldout)} images, but no {part} ones: it takes at "
                f"least one to train on and one to hold out"
            )

    def select(self, attributes: Sequence[str]) -> "Source":
        """Only these attributes, in this order."""
        if len(set(attributes)) < len(attributes) or not attributes:
            raise UserError(f"data.attributes must name each attribute once, got {attributes}")
        columns = [self._column(name) for name in attributes]
        return Source(
            self.title, self.images, self.labels[:, columns], tuple(attributes), self.heldout
        )

    def two_classes(self, attribute: str, names: tuple[str, str]) -> "Source":
        """The classes of images without and with an attribute, called ``names``."""
        labels = self.labels[:, self._column(attribute)].astype(np.int64)
        return Source(self.title, self.images, labels, names, self.heldout)

    def _column(self, name: str) -> int:
        if self.labels.ndim == 1:
            raise UserError(
                f"{self.title} has one class per image and no attribute {name!r}: leave out "
                f"data.attribute and data.attributes, and pass conditioning=onehot"
            )
        if name in self.label_names:
            return self.label_names.index(name)
        close = get_close_matches(name, self.label_names, n=3)
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else "it has " + ", ".join(self.label_names)
        )
        raise UserError(f"{self.title} has no attribute {name!r}; {hint}")


def every_nth(n: int, fraction: float) -> np.ndarray:
    """Holds out a ``fraction`` of ``n`` images, spread evenly and at least one, bool [n]."""
    count = min(max(round(n * fraction), 1), n - 1)
    position = np.arange(n)
    return (position + 1) * count // n > position * count // n
