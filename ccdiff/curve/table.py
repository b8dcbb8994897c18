"""The rows of a curve: what was measured at one setting, over seeds."""

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ccdiff.diffusion.samplers import Sampler
from ccdiff.system.atomic import write_text

__all__ = ["METRICS", "Measurement", "Row", "Setting", "Spread", "summarise", "table", "write_csv"]


@dataclass(frozen=True)
class Setting:
    """A sampler under its name.

    Arguments:
        name: As on the command line.
        sampler: With its steps and its grid.
    """

    name: str
    sampler: Sampler

    def __str__(self) -> str:
        return f"{self.name} with {self.sampler.steps} steps"


class Measurement(NamedTuple):
    """What was found for one seed.

    Arguments:
        seconds_per_image: Wall time of sampling.
        rms_to_solution: Root mean square, over pixels in [-1, 1], of the difference to the exact
            solution of the ODE from the same noise; None for samplers that draw noise.
        label_agreement: Share of the labels that the classifier finds, in [0, 1].
        fd_classifier: Fréchet distance of its features to those of held-out images.
    """

    seconds_per_image: float
    rms_to_solution: float | None
    label_agreement: float
    fd_classifier: float

    def __str__(self) -> str:
        gap = "" if self.rms_to_solution is None else f"RMS {self.rms_to_solution:.4f}, "
        return (
            f"{gap}agreement {self.label_agreement:.2%}, fd_classifier {self.fd_classifier:.3f}, "
            f"{self.seconds_per_image:.3g} s per image"
        )


METRICS = Measurement._fields


class Spread(NamedTuple):
    """Mean and standard deviation over seeds; None where a single seed has none."""

    mean: float
    sd: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A setting with the spread of each metric, None where it does not apply.

    Arguments:
        setting: The sampler.
        num_seeds: Over how many seeds.
        metrics: By the names of :data:`METRICS`.
    """

    setting: Setting
    num_seeds: int
    metrics: dict[str, Spread | None]

    @property
    def calls(self) -> int:
        """Network calls for one image."""
        return self.setting.sampler.calls

    def flat(self) -> dict[str, float]:
        """The means, under names for a tracker."""
        prefix = f"curve/{self.setting.name}_{self.setting.sampler.steps}"
        return {f"{prefix}/{k}": v.mean for k, v in self.metrics.items() if v is not None}


def summarise(setting: Setting, measured: Sequence[Measurement]) -> Row:
    """Mean and standard deviation over seeds."""
    return Row(
        setting=setting,
        num_seeds=len(measured),
        metrics={name: _spread([getattr(m, name) for m in measured]) for name in METRICS},
    )


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), sd)


def table(rows: Sequence[Row], real: Measurement, *, images: int) -> list[list[object]]:
    """The names of the columns, one line per row, the reference first, then training images.

    Arguments:
        rows: As measured.
        real: What training images get.
        images: Per row and seed.

    Returns:
        Strings and numbers; None where a metric does not apply.
    """
    header = ["sampler", "grid", "steps", "calls", "seeds", "images_per_seed"]
    lines: list[list[object]] = [[*header, *(f"{m}{sd}" for m in METRICS for sd in ("", "_sd"))]]
    for row in rows:
        sampler = row.setting.sampler
        grid = type(sampler.grid).__name__.lower()
        cells: list[object] = [row.setting.name, grid, sampler.steps, row.calls, row.num_seeds]
        cells.append(images)
        for name in METRICS:
            cells += row.metrics[name] or (None, None)
        lines.append(cells)
    of_real = (None, None, None, None, real.label_agreement, None, real.fd_classifier, None)
    lines.append(["training images", None, None, None, None, images, *of_real])
    return lines


def write_csv(lines: Sequence[Sequence[object]], path: Path) -> None:
    """Writes a table, whole or not at all."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in line] for line in lines)
    write_text(path, text.getvalue())


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
