"""What a figure comes to over seeds. Nothing here needs torch."""

import statistics
from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["Difference", "Spread", "difference", "over_seeds"]


class Spread(NamedTuple):
    """A figure over seeds.

    Arguments:
        mean: Arithmetic.
        sd: Standard deviation with the divisor ``n - 1``; None for a single seed.
        n: How many seeds have the figure.
    """

    mean: float
    sd: float | None
    n: int


def over_seeds(values: Iterable[float | None]) -> Spread | None:
    """Mean and standard deviation of the values that are there; None where none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), sd, len(known))


class Difference(NamedTuple):
    """By how much one mean over seeds exceeds another, and between which values that lies.

    Arguments:
        mean: Of the first, less that of the second.
        low: Lower end of the interval.
        high: Its upper end.
        seeds: How many seeds both share, if it was taken seed by seed; None if not.
    """

    mean: float
    low: float
    high: float
    seeds: int | None

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high


def difference(
    first: Mapping[str, float], second: Mapping[str, float], *, among: int = 1
) -> Difference | None:
    """Compares two settings over seeds; None where there are too few to tell.

    Where they share two seeds or more, seed by seed: first weights and noise are the same then,
    and cancel out. Else by Welch, The Generalization of Student's Problem when Several Different
    Population Variances Are Involved, 1947.

    Arguments:
        first: Its figure by seed.
        second: The same of the other.
        among: How many such comparisons are made; the interval holds for all of them together with
            a probability of 95 % (Dunn, Multiple Comparisons Among Means, 1961).
    """
    from scipy.special import stdtrit  # scipy.stats takes half a second to import.

    tail = 1 - 0.025 / among
    shared = sorted(first.keys() & second.keys())
    if len(shared) > 1:
        each = [first[seed] - second[seed] for seed in shared]
        half = float(stdtrit(len(each) - 1, tail)) * statistics.stdev(each) / len(each) ** 0.5
        mean = statistics.fmean(each)
        return Difference(mean, mean - half, mean + half, len(each))
    if min(len(first), len(second)) < 2:
        return None
    mean = statistics.fmean(first.values()) - statistics.fmean(second.values())
    a, b = (statistics.variance(side.values()) / len(side) for side in (first, second))
    if a + b == 0:
        return Difference(mean, mean, mean, None)
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    half = float(stdtrit(freedom, tail)) * (a + b) ** 0.5
    return Difference(mean, mean - half, mean + half, None)
