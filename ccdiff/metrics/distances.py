"""All figures that compare samples with a set of real images by their features."""

from collections.abc import Sequence
from functools import partial
from math import inf, nan

import torch
from torch import Tensor

from ccdiff.metrics.frechet import Moments, frechet_distance
from ccdiff.metrics.intervals import Interval, half_samples
from ccdiff.metrics.kernel import kernel_distance
from ccdiff.metrics.neighbours import DENSITY_NEIGHBOURS, manifold
from ccdiff.metrics.sketch import Sketch

__all__ = ["KINDS", "class_distances", "distances", "intervals", "spread_ratio"]

KINDS = ("fd", "kd", "precision", "recall", "density", "coverage", "spread_ratio")
"""What :func:`distances` returns, in order; an extractor's name makes them names of figures."""
_FEW_SUBSETS = 10
# What each of KINDS can be; an unbiased estimate such as kd may be negative.
_LEAST = (0.0, -inf, 0.0, 0.0, 0.0, 0.0, 0.0)
_MOST = (inf, inf, 1.0, 1.0, inf, 1.0, inf)


def distances(samples: Sketch, real: Sketch, *, subsets: int = 100) -> list[float]:
    """The figures of samples, against all real images or against as many with the same labels.

    A distance of fewer than 2 images is nan, and so is what 5 neighbours take of fewer than 6.

    Arguments:
        samples: To be judged.
        real: To be compared with.
        subsets: Of the kernel distance.
    """
    as_many = real.like(samples.labels).features
    few = min(samples.moments.n, real.moments.n) < 2
    lonely = min(len(samples.features), len(as_many)) <= DENSITY_NEIGHBOURS
    return [
        nan if few else frechet_distance(samples.moments, real.moments),
        nan if few else kernel_distance(samples.features, real.features, subsets=subsets),
        *([nan] * 4 if lonely else manifold(samples.features, as_many)),
        nan if few else spread_ratio(samples.moments, real.moments),
    ]


def spread_ratio(samples: Moments, real: Moments) -> float:
    """Root mean square distance of features to their mean, samples over real images; 1 is right.

    Precision, density and coverage rise where it falls: samples that shrink towards the mean come
    to lie among real images. It is nan where real images are all alike.
    """
    ours, theirs = samples.covariance.trace(), real.covariance.trace()
    return float((ours / theirs).sqrt()) if theirs > 0 else nan


def intervals(samples: Sketch, real: Sketch, values: Sequence[float]) -> list[Interval]:
    """How far the ``values`` of :func:`distances` may be off for want of samples.

    No wider than what a figure can be, and rather too wide where a distance is about as small as
    it can be.
    """
    measure = partial(_of_part, samples, real)
    spans = half_samples(measure, len(samples.features), values)
    return [
        Interval(max(span.low, least), min(span.high, most))
        for span, least, most in zip(spans, _LEAST, _MOST, strict=True)
    ]


def _of_part(samples: Sketch, real: Sketch, part: Tensor) -> list[float]:
    return distances(samples.part(part), real, subsets=_FEW_SUBSETS)


def class_distances(samples: Sketch, real: Sketch, *, num_classes: int) -> Tensor:
    """The Fréchet distance of each class, float64 [K]; nan where a class has fewer than 2 images.

    Of fewer images than features it comes out too large, by about as much in each class.
    """
    found = []
    for k in range(num_classes):
        ours, theirs = (Moments(s.features[s.labels == k]) for s in (samples, real))
        few = min(ours.n, theirs.n) < 2
        found.append(float("nan") if few else frechet_distance(ours, theirs))
    return torch.tensor(found, dtype=torch.float64)
