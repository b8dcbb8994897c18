"""What it costs to reach a figure: images, time or operations until a run is as good as that.

A run that never gets there has no cost, and a setting with such a run has no mean: the mean of
those that did would be the better, the more fail. The same holds of a run of which it is not
known, since it failed before, or since its folder does not tell.
"""

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ccdiff.compare.read import Curve, Job
from ccdiff.compare.table import Comparison, Setting, direction
from ccdiff.errors import UserError
from ccdiff.metrics.goals import Goal, crossing, full_name, spent
from ccdiff.metrics.over_seeds import Spread, over_seeds

__all__ = [
    "KINDS",
    "Reach",
    "cost_at",
    "parse_thresholds",
    "reaches",
    "step_of",
    "usual_thresholds",
]

KINDS = {
    "images": "images",
    "seconds": "seconds of training",
    "cpu_seconds": "CPU seconds of training",
    "flops": "FLOPs",
}
"""What a cost may be counted in."""

_DIGITS = 3
_THRESHOLDS = re.compile(r"\s*([\w/.-]+?)\s*(:|>=|<=|>|<)(.*)")


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What it costs one setting to reach a threshold.

    Arguments:
        costs: Of each run of which it is known; None where it was never reached.
        unknown: How many runs are beside these.
    """

    costs: Sequence[float | None]
    unknown: int = 0

    @property
    def runs(self) -> int:
        """All runs of the setting."""
        return len(self.costs) + self.unknown

    @property
    def reached(self) -> int:
        """How many runs got there."""
        return sum(cost is not None for cost in self.costs)

    @property
    def spread(self) -> Spread | None:
        """Over seeds; None unless all runs got there."""
        return over_seeds(self.costs) if self.reached == self.runs else None


def step_of(curve: Curve, threshold: float, *, higher: bool) -> float | None:
    """The step at which a figure first reaches a threshold, between two looks by a straight line.

    Arguments:
        curve: The figure over training.
        threshold: To be reached.
        higher: Whether a higher figure is the better one.
    """
    sign = 1 if higher else -1
    for i, value in enumerate(curve.values):
        if sign * value < sign * threshold:
            continue
        return crossing(curve.steps, curve.values, threshold, at=i)
    return None


def cost_at(job: Job, step: float, by: str) -> float | None:
    """What a run has cost up to a step; None where its folder does not tell.

    Arguments:
        job: The run.
        step: Of the optimizer, between two also.
        by: One of :data:`KINDS`.
    """
    images = step * job.images_per_step
    if by == "images":
        return images
    if by == "flops":
        each = job.flops_per_image
        return None if each is None else images * each
    clock = job.timing if by == "seconds" else job.cpu
    return spent(clock.steps, clock.values, step)


def reaches(
    comparison: Comparison, metric: str, thresholds: Sequence[float], by: str
) -> list[list[Reach]]:
    """For each setting, what it costs to reach each threshold."""
    higher = direction(metric) == "higher"
    return [
        [_reach(setting, metric, threshold, by, higher=higher) for threshold in thresholds]
        for setting in comparison.settings
    ]


def _reach(setting: Setting, metric: str, threshold: float, by: str, *, higher: bool) -> Reach:
    costs, unknown = [], 0
    for job in setting.jobs:
        step = step_of(job.curves.get(metric, Curve()), threshold, higher=higher)
        cost = None if step is None else cost_at(job, step, by)
        # How far a run would have come that did not end, nobody knows.
        never = step is None and job.problem is None and metric in job.curves
        if cost is not None or never:
            costs.append(cost)
        else:
            unknown += 1
    return Reach(costs=costs, unknown=unknown)


def usual_thresholds(comparison: Comparison, metric: str) -> list[float]:
    """What all runs reach, what half of them do, and what the best does, to three digits."""
    better = direction(metric)
    jobs = [job for job in comparison.jobs if job.problem is None and metric in job.curves]
    if better is None or not jobs:
        return []
    pick = max if better == "higher" else min
    bests = sorted((pick(job.curves[metric].values) for job in jobs), reverse=better == "lower")
    levels = (bests[0], statistics.median(bests), bests[-1])
    return list(dict.fromkeys(_eased(level, higher=better == "higher") for level in levels))


def _eased(value: float, *, higher: bool) -> float:
    """To three digits, and no harder to reach."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - _DIGITS + 1)
    whole = math.floor(value / unit) if higher else math.ceil(value / unit)
    return float(f"{whole * unit:.{_DIGITS}g}")


def parse_thresholds(text: str) -> tuple[str, list[float]]:
    """Reads ``label_agreement_classifier:0.9,0.95``, or ``>=`` or ``<`` in place of the colon.

    Returns:
        The key of the figure, and the thresholds.

    Raises:
        UserError: Where it is not that, or it is not known which way of the figure is better, or
            no run can reach it.
    """
    found = _THRESHOLDS.fullmatch(text)
    try:
        levels = [float(number) for number in found[3].split(",")] if found else []
    except ValueError:
        levels = []
    if found is None or not levels or not all(map(math.isfinite, levels)):
        raise UserError(
            f"reach={text} is no figure with thresholds, such as "
            f"reach=label_agreement_classifier:0.9,0.95"
        )
    name, better = full_name(found[1]), direction(full_name(found[1]))
    if better is None:
        raise UserError(f"reach={text}: it is not known which way of {found[1]} is better")
    sign = (">=" if better == "higher" else "<=") if found[2] == ":" else found[2]
    for level in levels:
        if wrong := Goal(figure=name, sign=sign, threshold=level).wrong:
            raise UserError(f"reach={text}: {wrong}")
    return name, levels
