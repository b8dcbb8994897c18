"""What every data set becomes: uint8 images with labels, in an order that is a pure function."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ccdiff.errors import UserError
from ccdiff.seeding import generator_for

__all__ = ["Batches", "DataSet", "Split", "augment", "order", "to_float", "to_uint8"]


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, C, H, W] with labels: int64 class indices [N] or uint8 bits [N, K]."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            shape = tuple(self.images.shape)
            raise ValueError(f"images must be uint8 [N, C, H, W], got {self.images.dtype} {shape}")
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.images)

    def take(self, n: int) -> "Split":
        """``n`` images spread evenly over the split (all of it where it is smaller)."""
        n = min(n, len(self))
        index = torch.arange(n) * len(self) // n
        return Split(self.images[index], self.labels[index])


class DataSet(ABC):
    """The contract: state the facts at once, load the pixels when asked.

    Arguments:
        image_size: Height and width in pixels.
        channels: 1 (gray) or 3 (RGB).
        label_names: One name per class or attribute.
        flip: Whether a mirrored image is as good as the original.
        placement: Where the images are held in training, see :class:`Batches`.
        balance: How often rare labels are drawn, see :class:`Batches`.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        label_names: Sequence[str],
        flip: bool,
        placement: str = "auto",
        balance: str = "none",
    ) -> None:
        self.image_size = image_size
        self.channels = channels
        self.label_names = tuple(label_names)
        self.flip = flip
        self.placement = placement
        self.balance = balance

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, image_size, image_size)``."""
        return self.channels, self.image_size, self.image_size

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
        return train, heldout


@lru_cache(maxsize=4)
def order(n: int, seed: int, epoch: int) -> Tensor:
    """The permutation of ``n`` images in ``epoch``: a pure function, int64 [n]. Do not modify."""
    return torch.randperm(n, generator=generator_for(seed, "order", epoch))


class Batches:
    """Training batches by number: batch ``i`` is a function of the seed and ``i`` alone.

    Epochs follow one another without a gap, so no image is dropped and any batch size will do.
    The images live on ``device``.

    Arguments:
        split: The images.
        batch_size: Images per batch.
        seed: Of the order.
        device: Where images are held and batches are built.
    """

    def __init__(
        self, split: Split, *, batch_size: int, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.images = split.images.to(device)
        self.labels = split.labels.to(device)
        self.batch_size = batch_size
        self.seed = seed

    def indices(self, i: int) -> Tensor:
        """Which images batch ``i`` holds, int64 [batch_size]."""
        n, start = len(self.images), i * self.batch_size
        parts, end = [], start + self.batch_size
        while start < end:
            epoch, position = divmod(start, n)
            part = order(n, self.seed, epoch)[position : position + end - start]
            parts.append(part)
            start += len(part)
        return torch.cat(parts)

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        """Images uint8 [batch_size, C, H, W] and labels of batch ``i``, on the device."""
        index = self.indices(i).to(self.images.device)
        return self.images[index], self.labels[index]


def to_float(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1], any shape."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Floats, nominally in [-1, 1], to the nearest uint8; values outside are clipped."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors each of the images [B, C, H, W] left to right with probability one half."""
    mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)
