"""What every data set becomes: uint8 images with labels, in an order that is a pure function.

Points of the plane go the same way as images: two channels, one pixel, float32. Wherever images
are kept, whole numbers are an image and a float is such a point, which is plotted, not shown.
"""

import hashlib
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ccdiff.diffusion.oracle import LabelledOracle
from ccdiff.errors import UserError
from ccdiff.seeding import generator_for

__all__ = [
    "DataSet",
    "ImageRows",
    "Split",
    "augment",
    "image_shape",
    "in_plane",
    "limited",
    "order",
    "to_data",
    "to_float",
    "to_uint8",
]

_FINGERPRINT_BYTES = 64 << 20
_HASHED_AT_A_TIME = 512
_PLANE = (2, 1, 1)


class ImageRows:
    """Images uint8 [N, C, H, W] in a file, read by number and not mapped into memory.

    What is read from a map counts as memory of the process until the system takes it back.

    Arguments:
        path: The file.
        offset: Bytes before the first image.
        shape: ``(C, H, W)``.
    """

    def __init__(self, path: Path, *, offset: int, shape: Sequence[int]) -> None:
        self.path = path
        self.offset = offset
        self.shape = tuple(shape)
        self.row_bytes = torch.Size(self.shape).numel()
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def after(self, n: int) -> "ImageRows":
        """The same images without the first ``n``."""
        return ImageRows(self.path, offset=self.offset + n * self.row_bytes, shape=self.shape)

    def read(self, index: Tensor, out: Tensor) -> None:
        """Reads the images ``index`` [B] into ``out``, uint8 [B, C, H, W] on the CPU.

        Raises:
            UserError: Where the file is shorter than it was.
        """
        for i, row in zip(index.tolist(), out.numpy(), strict=True):
            read = os.preadv(self._file, [row.data], self.offset + i * self.row_bytes)
            if read != self.row_bytes:
                raise UserError(f"image {i} cannot be read from {self.path}: it was cut short")


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, C, H, W], or points of the plane float32 [N, 2, 1, 1], with labels.

    Labels are int64 class indices [N], uint8 bits [N, K], or real numbers float32 [N, K], NaN
    where one is missing.

    Arguments:
        images: In memory or mapped into it.
        labels: In memory.
        rows: The same images in their file, where they have one.
    """

    images: Tensor
    labels: Tensor
    rows: ImageRows | None = None

    def __post_init__(self) -> None:
        wanted = torch.float32 if in_plane(self.images.shape[1:]) else torch.uint8
        if self.images.dtype != wanted or self.images.ndim != 4:
            shape = tuple(self.images.shape)
            raise ValueError(
                f"images must be uint8 [N, C, H, W], or points float32 [N, 2, 1, 1], got "
                f"{self.images.dtype} {shape}"
            )
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.images)

    def take(self, n: int) -> "Split":
        """``n`` images spread evenly over the split (all of it where it is smaller)."""
        n = min(n, len(self))
        index = torch.arange(n) * len(self) // n
        return Split(self.images[index], self.labels[index])

    def count_labels(self, num_labels: int) -> Tensor:
        """Images of each class, with each attribute, or with each number, int64 [num_labels]."""
        if self.labels.ndim == 1:
            return self.labels.bincount(minlength=num_labels)
        if self.labels.is_floating_point():
            return (~self.labels.isnan()).sum(0)
        return self.labels.sum(0, dtype=torch.int64)

    def fingerprint(self) -> str:
        """A hash of all labels and of images spread evenly, as many as make 64 MiB.

        It is of what they are, not of where: a folder may be moved or copied. Checkpoints keep it;
        what is kept on disk instead of being made anew goes by :meth:`whole_fingerprint`.
        """
        some = self.take(max(1, _FINGERPRINT_BYTES // self.images[0].numel()))
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.labels.shape)).encode())
        for tensor in (self.labels, some.images):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def whole_fingerprint(self) -> str:
        """A hash of all images and labels, 16 hexadecimal digits: the key of what is made of them.

        It reads every pixel, and so takes seconds where :meth:`fingerprint` does not.
        """
        digest = hashlib.blake2b(digest_size=8)
        shapes = (self.images.shape, self.labels.shape, self.labels.dtype)
        digest.update(repr(shapes).encode())
        for tensor in (self.images, self.labels):
            for part in tensor.split(_HASHED_AT_A_TIME):
                digest.update(part.cpu().contiguous().numpy())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet(ABC):
    """The contract: state the facts at once, load the pixels when asked.

    Arguments:
        image_size: Side in pixels, or height and width.
        channels: 1 (gray) or 3 (RGB); or 2, the coordinates of points of the plane.
        flip: Whether a mirrored image is as good as the original.
        label_names: One name per class or attribute; sets that read them from their files may
            leave them out, see :attr:`names`.
        placement: Where the images are held in training, see :class:`Batches`.
        balance: How often rare labels are drawn, see :class:`Batches`.
        limit: How many of the training images to take, as many of each class as can be; those of
            a smaller number are among those of a larger one. None for all.
    """

    image_size: int | Sequence[int]
    channels: int
    flip: bool
    label_names: Sequence[str] | None = None
    placement: str = "auto"
    balance: str = "none"
    limit: int | None = None

    def __post_init__(self) -> None:
        # Refuses what is no size before anything is read.
        image_shape(self.channels, self.image_size)
        if self.limit is not None and self.limit < 1:
            raise UserError(f"data.limit must be at least 1, got {self.limit}")

    @property
    def names(self) -> tuple[str, ...]:
        """One name per class or attribute."""
        return tuple(self.label_names or ())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        return image_shape(self.channels, self.image_size)

    @property
    def known_labels(self) -> Tensor | None:
        """Those of all images, [N] or [N, K], where they are known before images are read."""
        return None

    @property
    def exact(self) -> LabelledOracle | None:
        """The exact denoiser of what the images are drawn from, where that is known."""
        return None

    @abstractmethod
    def read(self) -> tuple[Split, Split]:
        """The training and held-out splits, from the source."""

    def load(self) -> tuple[Split, Split]:
        """The training and held-out splits, checked against the stated facts.

        Raises:
            UserError: Where the source is missing or is not what the config says.
        """
        train, heldout = self.read()
        for split in (train, heldout):
            found = tuple(split.images.shape[1:])
            if found != self.image_shape:
                raise UserError(
                    f"the images are {found} (channels, height, width), but the config says "
                    f"data.channels={self.channels} data.image_size={self.image_size}"
                )
        return train if self.limit is None else limited(train, self.limit), heldout


def image_shape(channels: int, image_size: int | Sequence[int]) -> tuple[int, int, int]:
    """``(channels, height, width)`` as ``data.channels`` and ``data.image_size`` say it.

    Arguments:
        channels: 1 or 3; or 2 with a size of 1, points of the plane.
        image_size: The side of a square, or height and width.

    Raises:
        UserError: Where these are no sizes of an image.
    """
    sides = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
    if len(sides) != 2 or not all(type(side) is int and side >= 1 for side in sides):
        raise UserError(
            f"data.image_size must be a number of pixels of at least 1, or [height, width], got "
            f"{image_size}"
        )
    shape = channels, sides[0], sides[1]
    if channels not in (1, 3) and not in_plane(shape):
        raise UserError(
            f"data.channels must be 1 (gray) or 3 (RGB), or 2 with data.image_size=1 (points of "
            f"the plane), got {channels} with {image_size}"
        )
    return shape


def in_plane(shape: Sequence[int]) -> bool:
    """Whether ``(channels, height, width)`` is that of points of the plane, and of no image."""
    return tuple(shape) == _PLANE


@lru_cache(maxsize=4)
def order(n: int, seed: int, epoch: int) -> Tensor:
    """The permutation of ``n`` images in ``epoch``: a pure function, int64 [n]. Do not modify."""
    return torch.randperm(n, generator=generator_for(seed, "order", epoch))


def limited(split: Split, n: int) -> Split:
    """``n`` images of a split, in memory: as many of each class as can be.

    Which they are is a pure function of the labels, and those of a smaller ``n`` are among them.

    Raises:
        UserError: Where there are not so many.
    """
    if n > len(split):
        raise UserError(f"data.limit={n}, but there are {len(split)} training images")
    chosen = torch.randperm(len(split), generator=generator_for("limit"))
    if split.labels.ndim == 1:
        # How many of its class come before each, by which the classes then take turns.
        labels = split.labels.cpu()[chosen]
        place = torch.empty(len(chosen), dtype=torch.int64)
        for label in labels.unique():
            members = (labels == label).nonzero().squeeze(1)
            place[members] = torch.arange(len(members))
        chosen = chosen[place.argsort(stable=True)]
    index = chosen[:n].sort().values
    return Split(split.images[index], split.labels[index])


def to_float(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1], any shape; points, which are float, stay as they are.

    Raises:
        ValueError: For floats that are no points of the plane: their range is not known.
    """
    if not images.is_floating_point():
        return images.float() / 127.5 - 1
    if not in_plane(images.shape[-3:]):
        raise ValueError(f"images must be uint8, got {images.dtype} {tuple(images.shape)}")
    return images


def to_uint8(x: Tensor) -> Tensor:
    """Floats, nominally in [-1, 1], to the nearest uint8; values outside are clipped."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_data(x: Tensor) -> Tensor:
    """Samples [..., C, H, W] as a data set holds such: uint8 images, or float32 points."""
    return x.float() if in_plane(x.shape[-3:]) else to_uint8(x)


def augment(
    images: Tensor,
    generator: torch.Generator,
    *,
    batch_size: int | None = None,
    rows: slice = slice(None),
) -> Tensor:
    """Mirrors each of the images [B, C, H, W] left to right with probability one half.

    Arguments:
        images: A batch, or some rows of one.
        generator: Of the randomness.
        batch_size: Images of the whole batch, where these are ``rows`` of it: they are mirrored
            as they would be there.
        rows: Which they are.
    """
    draws = torch.rand(batch_size or len(images), generator=generator, device=images.device)
    mirrored = draws[rows] < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)
