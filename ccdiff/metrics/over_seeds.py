"""What a figure comes to over seeds. Nothing here needs torch."""

import statistics
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Spread", "over_seeds"]


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
