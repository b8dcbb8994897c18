"""Who reaches a target with the least training: learners trained by turns and looked at."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean
from typing import NamedTuple

from tests.benchmarks.kit import count
from tests.benchmarks.learners import Learner

FAR, LEAP, STRIDE = 0.25, 1.6, 1.15
"""The next look comes after so many times the training: far below the target, and near it."""


class Look(NamedTuple):
    """What was seen after some training: CPU seconds, images, and agreement in [0, 1]."""

    seconds: float
    images: int
    agreement: float


@dataclass
class Racer:
    """A learner on its way to the target."""

    name: str
    learner: Learner
    seconds: float = 0.0
    """Of training."""
    judging: float = 0.0
    """Seconds of drawing and judging."""
    images: int = 0
    looks: list[Look] = field(default_factory=list)

    def train(self, until: float, clock: Callable[[], float]) -> None:
        """Trains until it has taken so many seconds."""
        while self.seconds < until:
            started = clock()
            self.learner.step()
            self.seconds += clock() - started
            self.images += self.learner.batch_size

    def look(self, judge: Callable[[Learner], float], clock: Callable[[], float]) -> None:
        """Draws and judges."""
        started = clock()
        self.looks.append(Look(self.seconds, self.images, judge(self.learner)))
        self.judging += clock() - started

    def due(self, target: float, first: float) -> float:
        """Seconds of training after which to look next."""
        if not self.looks:
            return first
        return self.seconds * (LEAP if self.looks[-1].agreement < target - FAR else STRIDE)

    def reached(self, target: float) -> Look | None:
        """The first of two looks in a row at or above the target."""
        for one, next_ in pairwise(self.looks):
            if min(one.agreement, next_.agreement) >= target:
                return one
        return None


def race(
    racers: Iterable[Racer],
    judge: Callable[[Learner], float],
    *,
    target: float,
    first: float,
    limit: float,
    clock: Callable[[], float] = time.process_time,
) -> None:
    """Trains all until each has reached the target or the limit.

    Arguments:
        racers: Who.
        judge: The agreement of a learner's samples, in [0, 1].
        target: Agreement to reach.
        first: Seconds of training before the first look.
        limit: Seconds of training at most.
        clock: Tells seconds.
    """
    running = list(racers)
    while running:
        racer = min(running, key=lambda racer: racer.due(target, first))
        racer.train(racer.due(target, first), clock)
        racer.look(judge, clock)
        print(f"{racer.name}: {racer.looks[-1]}", file=sys.stderr, flush=True)
        if racer.reached(target) or racer.due(target, first) > limit:
            running.remove(racer)


def table(cases: Mapping[str, Sequence[Racer]], flops: Mapping[str, float], target: float) -> str:
    """Markdown: one row per case, means over seeds, ratios to the first case."""
    lines = [
        "| case | parameters | GFLOPs per image | batch | images to the target "
        "| CPU seconds to the target | ratio to the first | drawing and judging, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = None
    for name, racers in cases.items():
        learner = racers[0].learner
        ends = [racer.reached(target) for racer in racers]
        row = [name, f"{count(learner.network) / 1e6:.2f} M", f"{flops[name] / 1e9:.3f}"]
        row.append(str(learner.batch_size))
        found = [end for end in ends if end is not None]
        if len(found) == len(ends):
            seconds = mean(end.seconds for end in found)
            base = seconds if base is None else base
            each = ", ".join(f"{end.seconds:.0f}" for end in found)
            row += [f"{mean(end.images for end in found):,.0f}", f"{seconds:.0f} ({each})"]
            row.append("" if base is None else f"{seconds / base:.1f}")
        else:
            best = max((look.agreement for racer in racers for look in racer.looks), default=0)
            spent = min(racer.seconds for racer in racers)
            row += ["", f"not in {spent:.0f} (at most {100 * best:.1f} %)"]
            row.append("" if base is None else f"> {spent / base:.1f}")
        row.append(f"{mean(racer.judging for racer in racers):.0f}")
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)
