"""Samples that are training images over again, told by their pixels."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ccdiff.data import to_float

__all__ = ["Copies", "copied", "count_copies"]

_RATIO = 1 / 3
_SIDE = 32
_BLOCK = 2048
_SURE = 1e-3


class Copies(NamedTuple):
    """How many images are copies, among samples and among held-out images.

    Arguments:
        samples: Copies among the samples.
        of_samples: How many samples there are.
        heldout: Copies among held-out images, which can be so by chance alone.
        of_heldout: How many held-out images there are.
    """

    samples: int
    of_samples: int
    heldout: int
    of_heldout: int

    @property
    def share(self) -> float:
        """Of the samples, in [0, 1]."""
        return self.samples / self.of_samples

    @property
    def share_heldout(self) -> float:
        """Of the held-out images, in [0, 1]: what so few training images explain."""
        return self.heldout / self.of_heldout

    @property
    def unexplained(self) -> bool:
        """Whether samples have more copies than held-out images, beyond one chance in 1,000."""
        return self.chance < _SURE

    @property
    def chance(self) -> float:
        """The probability of so many among the samples, were both of one kind.

        Fisher's exact test, one-sided (Fisher, Statistical Methods for Research Workers, 1934).
        """
        copies, images = self.samples + self.heldout, self.of_samples + self.of_heldout
        most = min(copies, self.of_samples)
        ways = [
            _log_choose(copies, k) + _log_choose(images - copies, self.of_samples - k)
            for k in range(self.samples, most + 1)
            if self.of_samples - k <= images - copies
        ]
        return sum(math.exp(way - _log_choose(images, self.of_samples)) for way in ways)


def copied(images: Tensor, among: Tensor) -> Tensor:
    """Which images are copies of one of ``among``, bool [N].

    Those whose distance to the nearest is less than a third of that to the next: Yoon et al.,
    Diffusion Probabilistic Models Generalize when They Fail to Memorize, 2023, and Gu et al., On
    Memorization in Diffusion Models, 2023 (arXiv:2310.02664). Distances are of pixels, of images
    that are larger than 32 x 32 after they are brought to that. What is there twice is no copy's
    only original, and so is not found.

    Arguments:
        images: uint8 [N, C, H, W].
        among: uint8 [M, C, H, W], at least two.
    """
    ours = _pixels(images)
    best = torch.full((len(images), 2), torch.inf)
    for part in among.split(_BLOCK):
        gaps = torch.cdist(ours, _pixels(part))
        best = torch.cat([best, gaps], 1).topk(2, largest=False).values
    return best[:, 0] < _RATIO * best[:, 1]


def count_copies(samples: Tensor, heldout: Tensor, train: Tensor) -> Copies:
    """How many of the samples and of the held-out images are copies of training images.

    Arguments:
        samples: uint8 [N, C, H, W].
        heldout: uint8 [M, C, H, W].
        train: uint8 [K, C, H, W], at least two.
    """
    return Copies(
        samples=int(copied(samples, train).sum()),
        of_samples=len(samples),
        heldout=int(copied(heldout, train).sum()),
        of_heldout=len(heldout),
    )


def _pixels(images: Tensor) -> Tensor:
    x = to_float(images.cpu())
    if max(x.shape[-2:]) > _SIDE:
        x = interpolate(x, [min(side, _SIDE) for side in x.shape[-2:]], mode="area")
    return x.flatten(1)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
