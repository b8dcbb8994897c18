"""Data sets of image files, which are prepared once and then held, or read as they are needed."""

import logging
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
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

__all__ = ["FilesInFolder", "ImageFiles"]

log = logging.getLogger(__name__)

_MAX_LISTED = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFiles(DataSet):
    """Shared by the data sets of image files. Names of labels are read from the source.

    Arguments:
        attributes: Attributes to keep, in this order; none keeps all.
        attribute: Makes the two classes of images without and with it, instead of attributes.
        heldout: Fraction of the images to hold out where the source has no split of its own.
        background: What transparent images are laid on, a colour name or three numbers.
        decode: ``exact`` or ``fast``, see :class:`~ccdiff.data.files.decode.PixelSettings`.
        max_bad_fraction: How many of the files may be unusable.
        cache: Folder of prepared copies.

    The others as for :class:`~ccdiff.data.core.DataSet`.
    """

    attributes: Sequence[str] | None = None
    attribute: str | None = None
    heldout: float = 0.1
    background: str | Sequence[int] = "white"
    decode: str = "exact"
    max_bad_fraction: float = 0.01
    cache: str = "data/prepared"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.heldout < 1:
            raise UserError(f"data.heldout must lie between 0 and 1, got {self.heldout}")
        if not 0 <= self.max_bad_fraction <= 1:
            raise UserError(
                f"data.max_bad_fraction must be in [0, 1], got {self.max_bad_fraction}"
            )
        if self.attributes is not None and self.attribute is not None:
            raise UserError("pass data.attributes or data.attribute, not both")
        _ = self.settings  # Refuses what is wrong with them.

    @property
    def settings(self) -> PixelSettings:
        """What a pixel depends on besides its file."""
        channels, height, width = self.image_shape
        return PixelSettings(
            image_size=(height, width),
            channels=channels,
            background=parse_color(self.background),
            decode=self.decode,
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
    def names(self) -> tuple[str, ...]:
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
        prepared = prepare(
            self.source, settings=self.settings, cache=Path(self.cache).expanduser()
        )
        self._refuse_too_many_bad(prepared)
        if twins := prepared.manifest["twins"]:
            log.info(
                "%d held-out images have the pixels of a training image and are left out, such as "
                "%s",
                len(twins),
                self.source.images.names[twins[0]],
            )
        if prepared.manifest["images"]["enlarged"]:
            log.warning(
                "%d of %d images are smaller than data.image_size=%s and were enlarged",
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
            raise UserError(
                f"no usable {'held-out' if n else 'training'} images in {self.source.title}"
            )
        rows = ImageRows(prepared.images_path, offset=pixels.offset, shape=pixels.shape[1:])
        with warnings.catch_warnings():
            # Torch warns that it cannot keep anyone from writing; nobody does.
            warnings.simplefilter("ignore", UserWarning)
            images = torch.from_numpy(pixels)
        return Split(images[:n], labels[:n], rows), Split(images[n:], labels[n:], rows.after(n))


@dataclass(frozen=True, kw_only=True, eq=False)
class FilesInFolder(ImageFiles):
    """Shared by the sets of image files that lie somewhere on this machine.

    Arguments:
        root: Where to look for the images.

    The others as for :class:`ImageFiles`.
    """

    root: str | None

    @property
    def folder(self) -> Path:
        """``root``, whose ``~`` no shell wrote out where it stands in a recipe."""
        return Path(self.root or "").expanduser()
