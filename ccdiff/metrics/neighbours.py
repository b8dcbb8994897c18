"""What nearest neighbours tell of two sets of features: fidelity, diversity, copying.

A set of images is seen as the union of balls about its features, each reaching to its ``k``-th
nearest neighbour in the set.

- Precision is the share of samples inside the real images' balls, recall the share of real images
  inside the samples' balls, with ``k = 3``: Kynkäänniemi et al., Improved Precision and Recall
  Metric for Assessing Generative Models, 2019 (arXiv:1904.06991), eq. 2.
- Density counts in how many real balls a sample lies, so that a single outlying real image weighs
  little, and coverage is the share of real balls that hold a sample, with ``k = 5``: Naeem et al.,
  Reliable Fidelity and Diversity Metrics for Generative Models, 2020 (arXiv:2002.09797), eq. 3
  and 4.
- Copying compares how near samples and held-out images come to the training images: Meehan et al.,
  A Non-Parametric Test to Detect Data-Copying in Generative Models, 2020 (arXiv:2004.05675).

Distances are taken block by block, so memory does not grow with the square of the number.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["DENSITY_NEIGHBOURS", "Manifold", "Nearest", "copying", "manifold", "nearest"]

_PRECISION_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5
_BLOCK = 1024


class Manifold(NamedTuple):
    """Precision, recall and coverage in [0, 1]; density at least 0, about 1 for real images."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(samples: Tensor, real: Tensor) -> Manifold:
    """Compares samples [N, F] with real images [M, F]; take as many of either.

    Raises:
        ValueError: Where a set is too small to have a fifth neighbour.
    """
    if min(len(samples), len(real)) <= DENSITY_NEIGHBOURS:
        raise ValueError(
            f"nearest neighbours need at least {DENSITY_NEIGHBOURS + 1} images of each, got "
            f"{len(samples)} and {len(real)}"
        )
    samples, real = samples.double(), real.double()
    ours, _ = _radii(samples)
    theirs, wider = _radii(real)
    inside, crowd = 0, 0
    reached = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    covered = torch.zeros_like(reached)
    for part, reach in zip(samples.split(_BLOCK), ours.split(_BLOCK), strict=True):
        gaps = torch.cdist(part, real)
        inside += int((gaps <= theirs).any(1).sum())
        crowd += int((gaps <= wider).sum())
        reached |= (gaps <= reach[:, None]).any(0)
        covered |= (gaps <= wider).any(0)
    return Manifold(
        precision=inside / len(samples),
        recall=reached.double().mean().item(),
        density=crowd / (DENSITY_NEIGHBOURS * len(samples)),
        coverage=covered.double().mean().item(),
    )


def _radii(features: Tensor) -> tuple[Tensor, Tensor]:
    """Distances to the third and the fifth neighbour, [N] each; none is its own neighbour."""
    third, fifth = [], []
    for part in features.split(_BLOCK):
        # The nearest of all is the image itself, at distance zero.
        near = torch.cdist(part, features).topk(DENSITY_NEIGHBOURS + 1, largest=False).values
        third.append(near[:, _PRECISION_NEIGHBOURS])
        fifth.append(near[:, DENSITY_NEIGHBOURS])
    return torch.cat(third), torch.cat(fifth)


class Nearest(NamedTuple):
    """For each feature the distance to its nearest neighbour in a set, and which it is, [N]."""

    distance: Tensor
    which: Tensor


def nearest(features: Tensor, among: Tensor) -> Nearest:
    """The nearest of ``among`` [M, F] to each of ``features`` [N, F]."""
    distances = torch.full((len(features),), torch.inf, dtype=torch.float64)
    index = torch.zeros(len(features), dtype=torch.long)
    features = features.double()
    for start in range(0, len(among), _BLOCK):
        gaps = torch.cdist(features, among[start : start + _BLOCK].double())
        closest, where = gaps.min(1)
        closer = closest < distances
        distances[closer] = closest[closer]
        index[closer] = where[closer] + start
    return Nearest(distances, index)


def copying(samples: Tensor, heldout: Tensor) -> float:
    """How often a sample is nearer to its nearest training image than a held-out image to its own.

    Arguments:
        samples: Distances of samples to their nearest training images, [N].
        heldout: The same of held-out images, [M].

    Returns:
        In [0, 1]: 0.5 for new images of the same distribution, towards 1 the more they are copies,
        below 0.5 where samples are unlike all training images. Ties count as half.
    """
    ordered = heldout.sort().values
    farther = len(ordered) - torch.searchsorted(ordered, samples, right=True)
    at_least = len(ordered) - torch.searchsorted(ordered, samples, right=False)
    return ((farther + at_least).double() / (2 * len(ordered))).mean().item()
