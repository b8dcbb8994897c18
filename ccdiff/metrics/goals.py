"""When a run is good enough, and what it cost to get there. Nothing here needs torch.

A goal is reached where a figure is beyond a threshold with the whole of its 95 % interval, so that
no lucky look ends a run.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile
from operator import ge, gt, le, lt
from typing import Any

from ccdiff.errors import UserError
from ccdiff.metrics.definitions import definition

__all__ = [
    "Goal",
    "Reached",
    "bounds",
    "check_goals",
    "crossing",
    "full_name",
    "parse_goals",
    "reached",
    "shown",
    "spent",
    "surest",
]

_SIGNS = {">=": ge, ">": gt, "<=": le, "<": lt}
_TAIL = 0.025
_EXAMPLE = "trainer.stop_at='label_agreement_classifier>=0.95'"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure that is to be beyond a threshold.

    Arguments:
        figure: As it is logged, such as ``evaluate/label_agreement_classifier``.
        sign: ``>=``, ``>``, ``<=`` or ``<``.
        threshold: What it is compared with.
    """

    figure: str
    sign: str
    threshold: float

    @property
    def higher(self) -> bool:
        """Whether it is reached from below."""
        return self.sign.startswith(">")

    @property
    def bound(self) -> str:
        """The key under which the end of the interval is logged that has to be beyond it."""
        low, high = bounds(self.figure)
        return low if self.higher else high

    def holds(self, value: float) -> bool:
        """Whether a value is beyond the threshold."""
        return bool(_SIGNS[self.sign](value, self.threshold))

    @property
    def wrong(self) -> str | None:
        """Why nobody can mean it, by what is stated of the figure; None where there is nothing."""
        known = definition(self.figure)
        if known is None:
            return None
        name = self.figure.removeprefix("evaluate/")
        if known.better == ("lower" if self.higher else "higher"):
            return (
                f"{name} is better the {known.better} it is, so '{self.sign}' would hold before "
                f"anything is learned"
            )
        best, worst = (known.most, known.least) if self.higher else (known.least, known.most)
        if not self.holds(best):
            percent = known.most == 1 and 1 < self.threshold <= 100
            hint = f"; {self.threshold:g} % is {self.threshold / 100:g}" if percent else ""
            return f"{name} is never {self.sign} {self.threshold:g}: at best it is {best:g}{hint}"
        if self.holds(worst):
            return f"{name} is always {self.sign} {self.threshold:g}: at worst it is {worst:g}"
        return None

    def __str__(self) -> str:
        return f"{self.figure.removeprefix('evaluate/')} {self.sign} {self.threshold:g}"


@dataclass(frozen=True, kw_only=True)
class Reached:
    """Where all goals held for the first time, between two looks by a straight line.

    Arguments:
        step: Of the optimizer, not whole as a rule.
        images: Training images taken until then.
        seconds: Of training; None where they were not logged.
        cpu_seconds: The same of the processors, of all processes together; None where they were
            not logged.
        device_seconds: Of all GPUs together; None on a CPU.
        flops: Floating-point operations of training; None where they are not known.
    """

    step: float
    images: float
    seconds: float | None = None
    cpu_seconds: float | None = None
    device_seconds: float | None = None
    flops: float | None = None

    def __str__(self) -> str:
        told = [f"step {self.step:.1f}", f"{self.images:,.0f} images"]
        for name, value in (
            ("s of training", self.seconds),
            ("CPU seconds", self.cpu_seconds),
            ("device seconds", self.device_seconds),
            ("FLOPs", self.flops),
        ):
            if value is not None:
                told.append(f"{value:.4g} {name}")
        return ", ".join(told)


def full_name(figure: str) -> str:
    """The key of a figure: what stands without a group is one of ``evaluate/``."""
    return figure if "/" in figure else f"evaluate/{figure}"


def bounds(figure: str) -> tuple[str, str]:
    """The keys under which both ends of a figure's interval are logged."""
    return f"{figure}_low", f"{figure}_high"


def parse_goals(text: str) -> list[Goal]:
    """Reads ``label_agreement_classifier>=0.95 and heldout/eps_mse<0.1``.

    Raises:
        UserError: Where it is not that, or asks for a figure to get worse.
    """
    goals = []
    for part in re.split(r"\s+and\s+", text.strip()):
        found = re.fullmatch(r"\s*([\w/.-]+?)\s*(>=|<=|>|<)\s*(\S+)\s*", part)
        try:
            threshold = float(found[3]) if found else math.nan
        except ValueError:
            threshold = math.nan
        if found is None or not math.isfinite(threshold):
            raise UserError(
                f"trainer.stop_at={text!r}: {part.strip()!r} is no figure with >=, >, <= or < and "
                f"a number, such as {_EXAMPLE}; several are joined by ' and '"
            )
        goal = Goal(figure=full_name(found[1]), sign=found[2], threshold=threshold)
        if (wrong := goal.wrong) is not None:
            raise UserError(f"trainer.stop_at={text!r}: {wrong}")
        goals.append(goal)
    return goals


def check_goals(goals: Sequence[Goal], figures: Sequence[str], *, images: int) -> None:
    """Looks whether a run will log what its end depends on, and can be sure of it.

    Arguments:
        goals: What is to be reached.
        figures: Those that the run logs with an interval.
        images: Samples of a look.

    Raises:
        UserError: Where one is not among them, with the nearest name, or where not even samples
            that are all right tell that it is reached.
    """
    short = {figure.removeprefix("evaluate/"): figure for figure in figures}
    for goal in goals:
        if goal.figure in figures:
            _check_sure(goal, images)
            continue
        name = goal.figure.removeprefix("evaluate/")
        near = get_close_matches(name, [*short, *figures], n=1, cutoff=0.5)
        judged = any(figure != "heldout/eps_mse" for figure in figures)
        hint = f"; did you mean {near[0]}?" if near else ""
        if not judged:
            hint = ". What samples are like is looked at with evaluate.every=<steps>, which is 0"
        raise UserError(
            f"trainer.stop_at: this run logs no {name} with an interval, but "
            f"{', '.join(short) or 'nothing'}{hint}"
        )


def _check_sure(goal: Goal, images: int) -> None:
    """Raises UserError where a share of samples is asked for that so few cannot show."""
    known = definition(goal.figure)
    if known is None or (known.least, known.most) != (0, 1) or not goal.higher:
        return
    if goal.holds(surest(images)):
        return
    if goal.threshold >= 1:
        raise UserError(
            f"trainer.stop_at: that {goal} holds of all images, no number of samples can show: "
            f"ask for less, such as 0.99"
        )
    needed = math.ceil(math.log(_TAIL) / math.log(goal.threshold))
    raise UserError(
        f"trainer.stop_at: of evaluate.images={images} samples, {goal} is not sure even where all "
        f"of them are right: then it is at least {surest(images):.4g}. Look at more, "
        f"evaluate.images={needed}, or ask for less"
    )


def surest(n: int) -> float:
    """The lower end of the 95 % interval of a share where all of ``n`` answers are right.

    Clopper & Pearson, The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial, 1934: a smaller share than that gives such answers in 2.5 % of cases.
    """
    return _TAIL ** (1 / n)


def crossing(
    steps: Sequence[float], values: Sequence[float], threshold: float, *, at: int
) -> float:
    """Where a figure passed a threshold that it is beyond at look number ``at``.

    By a straight line from the look before; at the first look, of which nothing is known before,
    it is there.
    """
    if at == 0:
        return float(steps[0])
    share = (threshold - values[at - 1]) / (values[at] - values[at - 1])
    return steps[at - 1] + share * (steps[at] - steps[at - 1])


def spent(steps: Sequence[float], amounts: Sequence[float], step: float) -> float | None:
    """What was spent up to a step, between two looks by a straight line; None beyond the last.

    Arguments:
        steps: Of looks, rising.
        amounts: Spent up to each.
        step: Between two also.
    """
    if not len(steps) or step > steps[-1]:
        return None
    at, took = [0, *steps], [0.0, *amounts]
    i = next(i for i in range(1, len(at)) if at[i] >= step)
    return took[i - 1] + (took[i] - took[i - 1]) * (step - at[i - 1]) / max(at[i] - at[i - 1], 1)


def reached(
    goals: Sequence[Goal],
    rows: Iterable[Mapping[str, Any]],
    *,
    batch_size: int,
    flops_per_image: float | None = None,
    devices: int = 0,
) -> Reached | None:
    """Where all goals hold at the last look at each; None where they do not.

    Arguments:
        goals: What is to be reached.
        rows: Of the run's log, in order.
        batch_size: Images of a step.
        flops_per_image: Floating-point operations of a training step for one image.
        devices: GPUs that train together; 0 on a CPU.
    """
    keys = {goal.bound for goal in goals} | {"train/seconds", "train/cpu_seconds"}
    curves: dict[str, dict[float, float]] = {key: {} for key in keys}
    for row in rows:
        for key in keys & row.keys():
            curves[key][row["step"]] = row[key]
    step = max((_since(goal, curves[goal.bound]) for goal in goals), default=math.inf)
    if math.isinf(step):
        return None
    seconds, cpu = (
        spent(list(curves[key]), list(curves[key].values()), step)
        for key in ("train/seconds", "train/cpu_seconds")
    )
    images = step * batch_size
    return Reached(
        step=step,
        images=images,
        seconds=seconds,
        cpu_seconds=cpu,
        device_seconds=None if not devices or seconds is None else devices * seconds,
        flops=None if flops_per_image is None else images * flops_per_image,
    )


def _since(goal: Goal, curve: Mapping[float, float]) -> float:
    """The step from which on a goal holds up to the last look; infinite where it does not."""
    steps, values = list(curve), list(curve.values())
    holding = len(list(takewhile(goal.holds, reversed(values))))
    if not holding:
        return math.inf
    return crossing(steps, values, goal.threshold, at=len(values) - holding)


def shown(goals: Sequence[Goal], rows: Iterable[Mapping[str, Any]]) -> str:
    """The last look at each goal's figure, for a reader: ``eps_mse 0.31 [0.29, 0.33]``."""
    keys = [key for goal in goals for key in (goal.figure, *bounds(goal.figure))]
    last: dict[str, float] = {}
    for row in rows:
        last |= {key: row[key] for key in keys if key in row}
    told = []
    for goal in goals:
        name = goal.figure.removeprefix("evaluate/")
        if goal.bound not in last:
            told.append(f"{name} was not measured")
        else:
            low, high = (last[key] for key in bounds(goal.figure))
            told.append(f"{name} {last[goal.figure]:.4g} [{low:.4g}, {high:.4g}]")
    return ", ".join(told)
