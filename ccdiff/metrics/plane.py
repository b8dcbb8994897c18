"""Points of the plane, judged by what they were drawn from: nothing is learned for it.

Their coordinates are the features, and the exact probability of each label takes the place of a
classifier. Their distances need no features at all.
"""

from collections.abc import Iterator
from math import pi
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ccdiff.data import Split
from ccdiff.diffusion.oracle import LabelledOracle
from ccdiff.metrics.agreement import label_agreement

__all__ = [
    "ExactClassifier",
    "Probabilities",
    "energy_distance",
    "sliced_wasserstein",
]

_DIRECTIONS = 64
_QUANTILES = 4096
_CHUNK = 2048


class Probabilities(NamedTuple):
    """What is known of points.

    Arguments:
        features: Their coordinates, float32 [B, 2].
        logits: ``log p(x0, y)``, float32 [B, K].
    """

    features: Tensor
    logits: Tensor


class ExactClassifier(nn.Module):
    """The probability of each label by the rule of Bayes, from the density that is known.

    Stands where :class:`~ccdiff.metrics.classifier.Classifier` does for images. No classifier
    finds more labels than the one that names the most probable.

    Arguments:
        exact: The density.
        heldout: Points to say how many labels can be found at all.
    """

    numbers = False

    def __init__(self, exact: LabelledOracle, heldout: Split) -> None:
        super().__init__()
        self.exact = exact
        # Part of the key of what is kept, so of all that judgements depend on.
        self.register_buffer("points", exact.points)
        self.register_buffer("labels", exact.labels)
        self.register_buffer("std", torch.tensor(exact.std))
        self.heldout_accuracy = label_agreement(self.logits(heldout.images), heldout.labels.cpu())

    def standardised(self, y: Tensor) -> Tensor:
        """Labels as they are."""
        return y

    def judge(self, points: Tensor) -> Iterator[Probabilities]:
        """Judges points float32 [N, 2, 1, 1] part by part, in order, on the CPU."""
        for part in points.cpu().split(_CHUNK):
            yield Probabilities(part.flatten(1), self.exact.log_density(part).float())

    def logits(self, points: Tensor) -> Tensor:
        """``log p(x0, y)`` of points float32 [N, 2, 1, 1], on the CPU, float32 [N, K]."""
        return torch.cat([found.logits for found in self.judge(points)])


def sliced_wasserstein(first: Tensor, second: Tensor) -> float:
    """The 2-Wasserstein distance of two sets of points on a line, over all lines: 0 if alike.

    ``sqrt(mean over lines of int_0^1 (F^-1(u) - G^-1(u))^2 du)``, with 64 lines evenly turned:
    Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, 2015.

    Arguments:
        first: [N, 2].
        second: [M, 2].
    """
    angles = pi * torch.arange(_DIRECTIONS, dtype=torch.float64) / _DIRECTIONS
    lines = torch.stack([angles.cos(), angles.sin()])
    n, m = len(first), len(second)
    count = n if n == m else _QUANTILES
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    ours, theirs = (
        (points.double() @ lines).sort(dim=0).values[(u * k).long()]
        for points, k in ((first, n), (second, m))
    )
    return (ours - theirs).square().mean().sqrt().item()


def energy_distance(first: Tensor, second: Tensor) -> float:
    """``2 E|a - b| - E|a - a'| - E|b - b'|``, unbiased: about 0 if alike, and then negative too.

    Székely & Rizzo, Energy Statistics: A Class of Statistics Based on Distances, 2013.

    Arguments:
        first: At least two points, [N, 2].
        second: At least two points, [M, 2].
    """

    def mean(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([torch.cdist(p, b).sum() for p in a.split(_CHUNK)]).sum() / len(a)

    a, b = first.double(), second.double()
    across = mean(a, b) / len(b)
    return (2 * across - mean(a, a) / (len(a) - 1) - mean(b, b) / (len(b) - 1)).item()
