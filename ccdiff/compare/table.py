"""What differs between runs, and what they reached: read from their folders, averaged over seeds.

Nothing here needs torch, so that a page is there at once.
"""

import csv
import io
import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from omegaconf import OmegaConf

from ccdiff.config.differences import flat
from ccdiff.config.saved import load_composed, load_config
from ccdiff.errors import UserError
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from ccdiff.runs.record import Record, read_record
from ccdiff.system.atomic import write_text

__all__ = ["Comparison", "Job", "Setting", "Spread", "compare", "find_runs", "read_job"]

SEED = "seed"
MAIN = "heldout/eps_mse"
_SAID_ELSEWHERE = ("resume", "tracker", "experiment", "sweep")
_HELD_OUT = (
    "_target_",
    "image_size",
    "channels",
    "label_names",
    "attributes",
    "attribute",
    "heldout",
)
"""Settings of the data that decide what is held out; where it lies is none of them."""
_NOT_RESULTS = re.compile(
    r"step|train/(lr|images_seen|seconds|flops_per_second|mfu)|time/.*|.*_log_snr_.*_to_.*"
)
_HIGHER_IS_BETTER = re.compile(r"agreement|accuracy|precision|recall|coverage|density|per_second")


class Spread(NamedTuple):
    """Over seeds: mean, standard deviation (None for a single seed), and how many."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run as its folder tells it.

    Arguments:
        run: The folder.
        config: Flat, of plain values.
        choices: Option of each group, as far as known.
        record: None where an older version trained it.
        rows: Of ``metrics.jsonl``.
    """

    run: Run
    config: dict[str, Any]
    choices: dict[str, str]
    record: Record | None
    rows: Sequence[dict[str, Any]]

    @property
    def problem(self) -> str | None:
        """Why it has no result, or None."""
        return self.record.problem if self.record else None

    @property
    def results(self) -> dict[str, float]:
        """The last value of each figure; none of a run that did not finish."""
        if self.problem is not None:
            return {}
        last = {key: value for row in self.rows for key, value in row.items()}
        return {
            key: float(value)
            for key, value in last.items()
            if not _NOT_RESULTS.fullmatch(key)
            and isinstance(value, int | float)
            and math.isfinite(value)
        }


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Runs that differ in their seed alone.

    Arguments:
        values: Of the axes.
        jobs: At least one.
    """

    values: dict[str, Any]
    jobs: list[Job] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Such as ``schedule=linear prediction=noise``."""
        return " ".join(f"{key}={shown(value)}" for key, value in self.values.items()) or "all"

    def spread(self, metric: str) -> Spread | None:
        """Of one figure, over the jobs that have it."""
        found = [job.results[metric] for job in self.jobs if metric in job.results]
        if not found:
            return None
        sd = statistics.stdev(found) if len(found) > 1 else None
        return Spread(statistics.fmean(found), sd, len(found))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Arguments:
        axes: What differs between the settings, but for the seed.
        metrics: Figures, the most telling first.
        settings: The runs, grouped by the axes.
    """

    axes: list[str]
    metrics: list[str]
    settings: list[Setting]

    @property
    def jobs(self) -> list[Job]:
        """All runs, setting by setting."""
        return [job for setting in self.settings for job in setting.jobs]

    def best(self, metric: str) -> Setting | None:
        """The setting with the best mean."""
        known = [(s.spread(metric), s) for s in self.settings]
        means = [(spread.mean, setting) for spread, setting in known if spread is not None]
        pick = max if higher_is_better(metric) else min
        return pick(means, key=lambda pair: pair[0])[1] if means else None

    @property
    def data_differ(self) -> list[str]:
        """By which settings of the data held-out images differ, so that errors do not compare."""
        keys = [f"data.{name}" for name in _HELD_OUT]
        values = {key: {json.dumps(job.config.get(key)) for job in self.jobs} for key in keys}
        return [key for key in keys if len(values[key]) > 1]

    def write_csv(self, path: Path) -> None:
        """One line per setting (mean, deviation, number), then one per run."""
        header = ["row", *self.axes, SEED, "folder", "status"]
        figures = [f"{metric}{end}" for metric in self.metrics for end in ("", "_sd", "_n")]
        lines: list[list[Any]] = [[*header, *figures]]
        for setting in self.settings:
            values = [_cell(setting.values[axis]) for axis in self.axes]
            spreads = [setting.spread(metric) or ("", "", 0) for metric in self.metrics]
            cells = ["" if cell is None else cell for spread in spreads for cell in spread]
            lines.append(["mean", *values, "", "", "", *cells])
        for setting in self.settings:
            values = [_cell(setting.values[axis]) for axis in self.axes]
            for job in setting.jobs:
                found = [(job.results.get(metric, ""), "", "") for metric in self.metrics]
                cells = [cell for figure in found for cell in figure]
                status = job.record.status if job.record else ""
                name = job.run.path.name
                lines.append(["run", *values, job.config.get(SEED, ""), name, status, *cells])
        text = io.StringIO()
        csv.writer(text).writerows(lines)
        write_text(path, text.getvalue())


def higher_is_better(metric: str) -> bool:
    """By its name."""
    return _HIGHER_IS_BETTER.search(metric) is not None


def shown(value: Any) -> str:
    """A value of a config as text, to five digits."""
    if isinstance(value, float):
        return f"{value:.5g}"
    return value if isinstance(value, str) else json.dumps(value)


def _cell(value: Any) -> Any:
    return value if isinstance(value, float) else shown(value)


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """The runs that are meant: run directories, and those inside of sweeps.

    Raises:
        UserError: Where a folder holds none.
    """
    found: dict[Path, Run] = {}
    for path in paths:
        # A run has folders with configs of their own: Hydra's, and what was made from it.
        inside = [path] if _is_run(Run(path)) else sorted(path.glob("[!.]*"))
        runs = [Run(child) for child in inside if _is_run(Run(child))]
        if not runs:
            raise UserError(f"{path} holds no run: pass run directories or a folder of a sweep")
        found |= {run.path.resolve(): run for run in runs}
    return list(found.values())


def _is_run(run: Run) -> bool:
    return run.path.is_dir() and (run.config.exists() or read_record(run) is not None)


def read_job(run: Run) -> Job:
    """Reads what a run left.

    Raises:
        UserError: Where its config cannot be read.
    """
    # A run that failed before its parts were built has only what Hydra composed.
    whole = run.config.exists()
    cfg = load_config(run.config) if whole else load_composed(run.path / ".hydra/config.yaml")
    config = cast(dict[str, Any], OmegaConf.to_container(cfg))
    record = read_record(run)
    return Job(
        run=run,
        config=flat(config),
        choices=record.choices if record else _choices(config),
        record=record,
        rows=read_metrics(run.metrics),
    )


def _choices(config: Mapping[str, Any]) -> dict[str, str]:
    """The class of each group, for runs that left no record."""
    return {
        group: node["_target_"].rpartition(".")[2].lower()
        for group, node in config.items()
        if isinstance(node, Mapping) and "_target_" in node
    }


def compare(jobs: Sequence[Job]) -> Comparison:
    """Groups runs by what differs between them."""
    columns = _differing(jobs)
    axes = [key for key in columns if key != SEED]
    settings: dict[str, Setting] = {}
    for i, job in enumerate(jobs):
        values = {axis: columns[axis][i] for axis in axes}
        settings.setdefault(json.dumps(values), Setting(values=values)).jobs.append(job)
    names = {key for job in jobs for key in job.results}
    metrics = sorted(names, key=lambda key: (key != MAIN, not key.startswith("evaluate"), key))
    return Comparison(axes=axes, metrics=metrics, settings=list(settings.values()))


def _differing(jobs: Sequence[Job]) -> dict[str, list[Any]]:
    """By key, one value per run, of all that differs and does not follow from what was asked."""
    groups = sorted({group for job in jobs for group in job.choices})
    columns = {g: [job.choices.get(g) for job in jobs] for g in groups}
    keys = sorted({key for job in jobs for key in job.config})
    columns |= {key: [job.config.get(key) for job in jobs] for key in keys}
    columns = {
        key: values
        for key, values in columns.items()
        if key.partition(".")[0] not in _SAID_ELSEWHERE and len(set(map(json.dumps, values))) > 1
    }
    asked = {
        o.partition("=")[0].lstrip("+~") for j in jobs if j.record for o in j.record.overrides
    }
    kept: set[str] = set()
    for key in sorted(columns, key=lambda key: (key not in asked, key not in groups)):
        if key in asked or not _determined(columns[key], [columns[other] for other in kept]):
            kept.add(key)
    return {key: values for key, values in columns.items() if key in kept}


def _determined(values: Sequence[Any], by: Sequence[Sequence[Any]]) -> bool:
    """Whether equal entries in all of ``by`` always go with equal ``values``."""
    seen: dict[str, str] = {}
    return all(
        seen.setdefault(json.dumps([column[i] for column in by]), json.dumps(value))
        == json.dumps(value)
        for i, value in enumerate(values)
    )
