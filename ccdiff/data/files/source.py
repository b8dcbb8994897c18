"""Where images come from, before they are decoded: encoded images with what they show."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Protocol

import numpy as np

from ccdiff.data.files.heldout import draw_heldout
from ccdiff.errors import UserError

__all__ = ["Images", "Selected", "Source"]


class Images(Protocol):
    """Encoded images by number."""

    @property
    def names(self) -> Sequence[str]:
        """One per image, unique."""

    def fingerprint(self) -> str:
        """A hash that changes when any image does."""

    def reader(self, i: int) -> Callable[[], bytes | np.ndarray]:
        """What gives image ``i``, encoded or as pixels, and may be called in any thread.

        Pixels are uint8 [H, W], [H, W, 1] or [H, W, 3].
        """


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Some of the images, by number.

    Arguments:
        images: All of them.
        index: Which.
    """

    images: Images
    index: np.ndarray

    @property
    def names(self) -> Sequence[str]:
        """Of the selected images."""
        return [self.images.names[i] for i in self.index.tolist()]

    def fingerprint(self) -> str:
        """Changes with any of the images and with their choice."""
        chosen = hashlib.sha256(self.index.astype("<i8").tobytes()).hexdigest()
        return f"{self.images.fingerprint()} {chosen}"

    def reader(self, i: int) -> Callable[[], bytes | np.ndarray]:
        """What gives the i-th of the selected images."""
        return self.images.reader(int(self.index[i]))


@dataclass(frozen=True)
class Source:
    """Encoded images with what they show.

    Arguments:
        title: Names the prepared copy for a human reader.
        images: N encoded images.
        labels: int64 [N] class indices, uint8 [N, K] attribute bits or float32 [N, K] numbers.
        label_names: Of the classes, attributes or numbers.
        heldout: Which images are held out, bool [N].
        drawn: Whether they were drawn, and not told by the set itself.
    """

    title: str
    images: Images
    labels: np.ndarray
    label_names: tuple[str, ...]
    heldout: np.ndarray
    drawn: bool = False

    @staticmethod
    def of(
        title: str,
        images: Images,
        labels: np.ndarray,
        label_names: tuple[str, ...],
        *,
        heldout: np.ndarray | None,
        fraction: float,
    ) -> "Source":
        """A source whose held-out images are drawn where ``heldout`` is None.

        Arguments: as for the class, and ``fraction``, how many to draw, in (0, 1).
        """
        drawn = heldout is None
        if heldout is None:
            heldout = draw_heldout(images.names, labels, fraction)
        return Source(title, images, labels, label_names, heldout, drawn)

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
        return replace(self, labels=self.labels[:, columns], label_names=tuple(attributes))

    def two_classes(self, attribute: str, names: tuple[str, str]) -> "Source":
        """The classes of images without and with an attribute, called ``names``."""
        labels = self.labels[:, self._column(attribute)].astype(np.int64)
        return replace(self, labels=labels, label_names=names)

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
