"""What it costs to reach a figure: images, time or operations until a run is as good as that.

A run that never gets there has no cost, and a setting with such a run has no mean: the mean of
those that did would be the better, the more fail.
"""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ccdiff.compare.read import Curve, Job
from ccdiff.compare.table import Comparison, Setting, direction
from ccdiff.errors import UserError
from ccdiff.metrics.goals import crossing, full_name, spent
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


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What it costs one setting to reach a threshold.

    Arguments:
        costs: Of each run that has a result, by its seed; None where it was never reached.
    """

    costs: Sequence[tuple[str, float | None]]

    @property
    def reached(self) -> int:
        """How many runs got there."""
        return sum(cost is not None for _, cost in self.costs)

    @property
    def spread(self) -> Spread | None:
        """Over seeds; None unless all runs got there."""
        if not self.costs or self.reached < len(self.costs):
            return None
        return over_seeds(cost for _, cost in self.costs)


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
        each = job.record.flops_per_image if job.record else None
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
    costs = []
    for job in setting.jobs:
        # How far a run would have come that did not end, nobody knows.
        if job.problem is None and metric in job.curves:
            step = step_of(job.curves[metric], threshold, higher=higher)
            cost = None if step is None else cost_at(job, step, by)
            if step is None or cost is not None:
                costs.append((str(job.config.get("seed")), cost))
    return Reach(costs=costs)


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


def parse_thresholds(text: str) -> Mapping[str, list[float]]:
    """Reads ``label_agreement_classifier:0.9,0.95``, or ``>=`` or ``<`` in place of the colon.

    Raises:
        UserError: Where it is not that, or it is not known which way of the figure is better.
    """
    figure, colon, numbers = re.sub("[<>]=?", ":", text, count=1).rpartition(":")
    name = full_name(figure.strip())
    try:
        levels = [float(number) for number in numbers.split(",")]
    except ValueError:
        levels = []
    if not colon or not levels or not all(map(math.isfinite, levels)):
        raise UserError(
            f"reach={text} is no figure with thresholds, such as "
            f"reach=label_agreement_classifier:0.9,0.95"
        )
    if direction(name) is None:
        raise UserError(f"reach={text}: it is not known which way of {figure} is better")
    return {name: levels}
