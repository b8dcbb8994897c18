"""Data sets of image files, which are prepared once and then held, or read as they are needed."""

import logging
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ccdiff.data.core import DataSet, ImageRows, Split
from ccdiff.data.files.decode import PixelSettings, parse_color
from ccdiff.data.files.prepared import Prepared, prepare
from ccdiff.data.files.source import Source
from ccdiff.errors import UserError

__all__ = ["ImageFiles"]

log = logging.getLogger(__name__)

_MAX_LISTED = 20


class ImageFiles(DataSet):
    """Shared by the data sets of image files. Names of labels are read from the source.

    Arguments:
        root: Where to look for the images.
        image_size: Height and width that images are brought to.
        channels: 1 (gray) or 3 (RGB).
        flip: Whether a mirrored image is as good as the original.
        attributes: Attributes to keep, in this order; none keeps all.
        attribute: Makes the two classes of images without and with it, instead of attributes.
        heldout: Fraction of the images to hold out where the source has no split of its own.
        background: What transparent images are laid on, a colour name or three numbers.
        max_bad_fraction: How many of the files may be unusable.
        cache: Folder of prepared copies.
        placement: See :class:`~ccdiff.data.Batches`.
        balance: See :class:`~ccdiff.data.Batches`.
    """

    def __init__(
        self,
        *,
        root: str | None,
        image_size: int,
        channels: int,
        flip: bool,
        attributes: Sequence[str] | None = None,
        attribute: str | None = None,
        heldout: float = 0.1,
        background: str | Sequence[int] = "white",
        max_bad_fraction: float = 0.01,
        cache: str = "data/prepared",
        placement: str = "auto",
        balance: str = "none",
    ) -> None:
        super().__init__(
            image_size=image_size,
            channels=channels,
            label_names=(),
            flip=flip,
            placement=placement,
            balance=balance,
        )
        if image_size < 1 or channels not in (1, 3):
            raise UserError(
                f"need data.image_size of at least 1 and data.channels of 1 or 3, "
                f"got {image_size} and {channels}"
            )
        if not 0 < heldout < 1:
            raise UserError(f"data.heldout must lie between 0 and 1, got {heldout}")
        if not 0 <= max_bad_fraction <= 1:
            raise UserError(f"data.max_bad_fraction must be in [0, 1], got {max_bad_fraction}")
        if attributes is not None and attribute is not None:
            raise UserError("pass data.attributes or data.attribute, not both")
        # As a recipe in YAML may have it; no shell writes out what follows a key with a dot.
        self.root = Path("" if root is None else root).expanduser()
        self.attributes = attributes
        self.attribute = attribute
        self.heldout = heldout
        self.max_bad_fraction = max_bad_fraction
        self.cache = Path(cache).expanduser()
        self.settings = PixelSettings(
            image_size=image_size, channels=channels, background=parse_color(background)
        )

    @abstractmethod
    def find(self) -> Source:
        """The images and everything that is known of them, without decoding any.

        Raises:
            UserError: Where they are not there or not in a known layout.
        """

    def classes_of(self, attribute: str) -> tuple[str, str]:
        """Names of the classes of images without and with ``attribute``."""
        return f"not_{attribute}", attribute

    @cached_property
    def source(self) -> Source:
        """All that :meth:`find` found; what is selected of it is the business of this class."""
        return self.find()

    @cached_property
    def selected(self) -> Source:
        """The source with the labels that the settings select."""
        if self.attribute is not None:
            return self.source.two_classes(self.attribute, self.classes_of(self.attribute))
        if self.attributes is not None:
            return self.source.select(self.attributes)
        return self.source

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the classes or attributes that the settings select."""
        return self.selected.label_names

    @property
    def known_labels(self) -> Tensor:
        return torch.from_numpy(self.selected.labels)

    def prepare(self) -> Prepared:
        """Finds the prepared copy or makes it, with all labels of the source.

        Raises:
            UserError: Where too many files are unusable.
        """
        prepared = prepare(self.source, settings=self.settings, cache=self.cache)
        self._refuse_too_many_bad(prepared)
        if prepared.manifest["images"]["enlarged"]:
            log.warning(
                "%d of %d images are smaller than data.image_size=%d and were enlarged",
                prepared.manifest["images"]["enlarged"],
                len(prepared.kept),
                self.image_size,
            )
        return prepared

    def _refuse_too_many_bad(self, prepared: Prepared) -> None:
        bad, n = prepared.bad, len(self.source.heldout)
        if not bad:
            return
        listed = "\n".join(f"  {one}" for one in bad[:_MAX_LISTED])
        if len(bad) > _MAX_LISTED:
            listed += f"\n  ... all are listed in {prepared.path / 'manifest.json'}"
        told = f"{len(bad)} of {n} files cannot be used:\n{listed}"
        if len(bad) > self.max_bad_fraction * n:
            raise UserError(
                f"{told}\nThat is more than data.max_bad_fraction={self.max_bad_fraction}: mend "
                f"or remove them, or raise it to go on without them"
            )
        log.warning(told)

    def read(self) -> tuple[Split, Split]:
        prepared = self.prepare()
        pixels = np.load(prepared.images_path, mmap_mode="r")
        labels = torch.from_numpy(self.selected.labels[prepared.kept])
        n = prepared.num_train
        if not 0 < n < len(pixels):
            raise UserError(f"no usable {'held-out' if n else 'training'} images in {self.root}")
        rows = ImageRows(prepared.images_path, offset=pixels.offset, shape=pixels.shape[1:])
        with warnings.catch_warnings():
            # Torch warns that it cannot keep anyone from writing; nobody does.
            warnings.simplefilter("ignore", UserWarning)
            images = torch.from_numpy(pixels)
        return Split(images[:n], labels[:n], rows), Split(images[n:], labels[n:], rows.after(n))
