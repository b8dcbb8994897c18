"""How far a figure may be off for want of images: 95 % intervals.

A mean over images is drawn anew with replacement: the bootstrap, Efron & Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13. Distances between sets would see the same image
twice as a copy, so they are measured on random halves instead, whose standard deviation is that of
the whole: the delete-half jackknife, Shao & Wu, A General Theory for Jackknife Variance
Estimation, 1989. Figures of several seeds need neither: Student, The Probable Error of a Mean,
1908.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ccdiff.metrics.goals import surest
from ccdiff.seeding import generator_for

__all__ = ["Interval", "bootstrap", "half_samples", "of_answers", "of_variance", "student_t"]

_DRAWS = 1000
_HALVES = 20
_WIDTH = 1.96


class Interval(NamedTuple):
    """Between which values a figure lies with a probability of 95 %."""

    low: float
    high: float


def bootstrap(values: Tensor) -> Interval:
    """The interval of the mean of ``values`` [N], by 1000 draws; the same at every call."""
    values = values.double()
    generator = generator_for("bootstrap")
    means = torch.stack(
        [
            values[torch.randint(len(values), (len(values),), generator=generator)].mean()
            for _ in range(_DRAWS)
        ]
    )
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(low, high)


def of_answers(answers: Tensor) -> Interval:
    """The interval of the share of right answers; the same at every call.

    Where nearly all are right, or wrong, draws from them know of hardly anything else, and the
    bootstrap of answers that are all alike has no width at all: an end is no nearer to 1, or 0,
    than such answers leave it (:func:`~ccdiff.metrics.goals.surest`).

    Arguments:
        answers: 1 where right and 0 where wrong, [N]; of others it is :func:`bootstrap`.
    """
    low, high = bootstrap(answers)
    if not ((answers == 0) | (answers == 1)).all():
        return Interval(low, high)
    most = surest(len(answers))
    return Interval(min(low, most), max(high, 1 - most))


def of_variance(mean: float, variance: float) -> Interval:
    """The interval of a mean whose own variance is known, and which is about normal."""
    half = _WIDTH * variance**0.5
    return Interval(mean - half, mean + half)


def half_samples(
    measure: Callable[[Tensor], Sequence[float]], n: int, values: Sequence[float]
) -> list[Interval]:
    """The intervals of figures of ``n`` images, by 20 random halves; the same at every call.

    Arguments:
        measure: Takes the numbers of some images and gives the figures of these.
        n: How many images there are.
        values: The figures of all images.
    """
    generator = generator_for("half samples")
    rows = [
        list(measure(torch.randperm(n, generator=generator)[: n // 2])) for _ in range(_HALVES)
    ]
    deviations = torch.tensor(rows, dtype=torch.float64).std(0).tolist()
    return [
        Interval(v - _WIDTH * d, v + _WIDTH * d) for v, d in zip(values, deviations, strict=True)
    ]


def student_t(values: Sequence[float]) -> Interval:
    """The interval of the mean of at least two values that are about normal, such as of seeds."""
    # Half a second to import, and needed at the end of long work.
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.fmean(values)
    return Interval(mean - half, mean + half)
