"""What differs between runs, and what they reached, averaged over seeds."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ccdiff.compare.read import Job
from ccdiff.metrics.definitions import Better, definition
from ccdiff.metrics.over_seeds import Spread, over_seeds
from ccdiff.system.atomic import write_text
from ccdiff.system.text import csv_cell, printable

__all__ = ["MAIN", "Comparison", "Setting", "compare", "direction", "shown"]

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
        """One figure over the jobs that have it."""
        return over_seeds(job.results.get(metric) for job in self.jobs)


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

    @cached_property
    def data_differ(self) -> list[str]:
        """Settings of the data by which held-out images differ, so that errors do not compare."""
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
        csv.writer(text).writerows([csv_cell(cell) for cell in line] for line in lines)
        write_text(path, text.getvalue())


def direction(metric: str) -> Better | None:
    """Which way of a figure is better, as its definition states; None where none does."""
    known = definition(metric)
    return None if known is None else known.better


def shown(value: Any) -> str:
    """A value of a config as text, to five digits."""
    if isinstance(value, float):
        return f"{value:.5g}"
    return printable(value) if isinstance(value, str) else json.dumps(value)


def _cell(value: Any) -> Any:
    return value if isinstance(value, float) else shown(value)


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
    """What differs and does not follow from what was asked: by key, one value per run."""
    groups = sorted({group for job in jobs for group in job.choices})
    columns = {g: [job.choices.get(g) for job in jobs] for g in groups}
    keys = sorted({key for job in jobs for key in job.config})
    columns |= {key: [job.config.get(key) for job in jobs] for key in keys}
    texts = {
        key: [json.dumps(value) for value in values]
        for key, values in columns.items()
        if key.partition(".")[0] not in _SAID_ELSEWHERE
    }
    texts = {key: values for key, values in texts.items() if len(set(values)) > 1}
    asked = {
        o.partition("=")[0].lstrip("+~") for j in jobs if j.record for o in j.record.overrides
    }
    kept: list[str] = []
    # What the keys kept so far tell of each run.
    known: list[tuple[str, ...]] = [() for _ in jobs]
    for key in sorted(texts, key=lambda key: (key not in asked, key not in groups)):
        if key in asked or not _determined(texts[key], known):
            kept.append(key)
            known = [(*told, text) for told, text in zip(known, texts[key], strict=True)]
    return {key: columns[key] for key in texts if key in kept}


def _determined(values: Sequence[str], by: Sequence[tuple[str, ...]]) -> bool:
    """Whether equal entries in ``by`` always go with equal ``values``."""
    seen: dict[tuple[str, ...], str] = {}
    return all(
        seen.setdefault(known, value) == value for known, value in zip(by, values, strict=True)
    )
