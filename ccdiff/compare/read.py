"""Runs as their folders tell them. Nothing here needs torch, so that a page is there at once."""

import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from ccdiff.config.differences import flat
from ccdiff.config.names import class_names
from ccdiff.config.saved import load_composed, load_plain
from ccdiff.errors import UserError
from ccdiff.runs.folder import Run
from ccdiff.runs.log import thinned_rows
from ccdiff.runs.record import Record, read_record
from ccdiff.system.text import natural_key

__all__ = ["Curve", "Job", "find_runs", "read_job"]

_ROWS = 4000
"""Rows of each kind that are looked at, if there are more: a picture has fewer pixels."""
_NOT_RESULTS = re.compile(
    r"step|train/(lr|images_seen|seconds|cpu_seconds|flops_per_second|mfu)|time/.*|.*_log_snr_.*_to_.*"
)
_TIME, _CPU = "train/seconds", "train/cpu_seconds"
_OF_TRAINING = ("record.json", "checkpoints")
_COMPOSED = ".hydra/config.yaml"


@dataclass(frozen=True)
class Curve:
    """A figure over training: its values at rising steps."""

    steps: array = field(default_factory=lambda: array("q"))
    values: array = field(default_factory=lambda: array("d"))

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, step: int, value: float) -> None:
        """The value at the next step."""
        self.steps.append(step)
        self.values.append(value)

    def places(self, most: int) -> Sequence[int]:
        """At most ``most`` of its places, evenly spread, both ends among them."""
        n = len(self)
        if n <= most:
            return range(n)
        return [round(i * (n - 1) / (most - 1)) for i in range(most)]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run as its folder tells it.

    Arguments:
        run: The folder.
        config: Flat, of plain values.
        choices: Option of each group, as far as known.
        record: None where an older version trained it.
        curves: What was logged, by figure.
        timing: Seconds of training at the steps where they were logged.
        cpu: The same of the processors, all processes and threads together.
    """

    run: Run
    config: dict[str, Any]
    choices: dict[str, str]
    record: Record | None
    curves: Mapping[str, Curve]
    timing: Curve
    cpu: Curve = field(default_factory=Curve)

    @property
    def images_per_step(self) -> int:
        """Images of an optimizer step; 1 where the config names no such number."""
        return _count(self.config.get("trainer.batch_size")) or 1

    @property
    def flops_per_image(self) -> int | None:
        """Operations of a training step for an image; None where the record does not tell."""
        return _count(self.record.flops_per_image) if self.record else None

    @property
    def problem(self) -> str | None:
        """Why it has no result, or None."""
        if self.record and self.record.problem:
            return self.record.problem
        return None if self.curves else "no figures: its metrics.jsonl is missing or empty"

    @cached_property
    def results(self) -> dict[str, float]:
        """The last value of each figure; none of a run that did not finish."""
        if self.problem is not None:
            return {}
        return {name: curve.values[-1] for name, curve in self.curves.items()}

    def seconds(self, steps: Sequence[int]) -> list[float | None]:
        """Seconds of training at rising steps, interpolated; None where nothing was timed."""
        if not len(self.timing):
            return [None] * len(steps)
        at, took = [0, *self.timing.steps], [0.0, *self.timing.values]
        found: list[float | None] = []
        i = 1
        for step in steps:
            while i < len(at) - 1 and at[i] < step:
                i += 1
            share = (step - at[i - 1]) / max(at[i] - at[i - 1], 1)
            found.append(round(took[i - 1] + (took[i] - took[i - 1]) * share, 3))
        return found


def _count(value: Any) -> int | None:
    """A number of things; None for what is none, or takes more digits than a figure has."""
    return value if type(value) is int and 0 < value < 1 << 63 else None


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """The runs that are meant: run directories, and those inside of sweeps.

    Raises:
        UserError: Where a folder holds none.
    """
    found: dict[Path, Run] = {}
    for path in paths:
        # A run has folders with configs of their own: Hydra's, and what was made from it.
        # By numbers in names, so that data.limit-25 comes before data.limit-100.
        children = sorted(path.glob("[!.]*"), key=lambda child: natural_key(child.name))
        inside = [path] if _is_run(Run(path)) else children
        # A job of a sweep that ended before it had a record has only what Hydra composed.
        runs = [
            Run(child)
            for child in inside
            if _is_run(Run(child)) or (child != path and (child / _COMPOSED).exists())
        ]
        if not runs:
            raise UserError(f"{path} holds no run: pass run directories or a folder of a sweep")
        found |= {run.path.resolve(): run for run in runs}
    return list(found.values())


def _is_run(run: Run) -> bool:
    """An export has a config too, but nothing that training leaves."""
    if not run.path.is_dir():
        return False
    trained = any((run.path / name).exists() for name in (*_OF_TRAINING, run.metrics.name))
    return (run.config.exists() and trained) or read_record(run) is not None


def read_job(run: Run) -> Job:
    """Reads what a run left.

    Raises:
        UserError: Where its config cannot be read.
    """
    # A run that failed before its parts were built has only what Hydra composed.
    if run.config.exists():
        config = load_plain(run.config)
    else:
        composed = OmegaConf.to_container(load_composed(run.path / _COMPOSED))
        config = cast(dict[str, Any], composed)
    record = read_record(run)
    curves, timing, cpu = _read_curves(run)
    return Job(
        run=run,
        config=flat(config),
        choices=(record.choices if record else {}) or class_names(config),
        record=record,
        curves=curves,
        timing=timing,
        cpu=cpu,
    )


def _read_curves(run: Run) -> tuple[dict[str, Curve], Curve, Curve]:
    """The figures that are results, and the seconds of training, by the clock and of the CPU."""
    curves: dict[str, Curve] = {}
    timing, cpu = Curve(), Curve()
    left_out: set[str] = set()
    try:
        for row in thinned_rows(run.metrics, most=_ROWS):
            step = row["step"]
            for name, value in row.items():
                if name in curves:
                    curves[name].add(step, value)
                elif name == _TIME:
                    timing.add(step, value)
                elif name == _CPU:
                    cpu.add(step, value)
                elif name not in left_out:
                    if _NOT_RESULTS.fullmatch(name):
                        left_out.add(name)
                    else:
                        curves.setdefault(name, Curve()).add(step, value)
    except OSError as error:
        raise UserError(f"{run.metrics} cannot be read: {error.strerror}") from error
    return curves, timing, cpu
