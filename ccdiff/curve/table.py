"""The rows of a curve: what was measured at one setting, over seeds."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccdiff.diffusion.samplers import Sampler
from ccdiff.metrics.intervals import Interval, student_t
from ccdiff.metrics.judge import Reading
from ccdiff.metrics.over_seeds import Spread, over_seeds
from ccdiff.system.atomic import write_text
from ccdiff.system.text import csv_cell

__all__ = ["RMS", "SECONDS", "Measurement", "Row", "Setting", "summarise", "table", "write_csv"]

SECONDS = "seconds_per_image"
RMS = "rms_to_solution"


@dataclass(frozen=True)
class Setting:
    """A sampler under its name.

    Arguments:
        name: As on the command line.
        sampler: With its steps and its grid.
    """

    name: str
    sampler: Sampler

    @property
    def grid(self) -> str:
        """The name of the grid's class in small letters, such as ``karras``."""
        return type(self.sampler.grid).__name__.lower()

    def __str__(self) -> str:
        return f"{self.name} with {self.sampler.steps} steps"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was found for one seed.

    Arguments:
        seconds_per_image: Wall time of sampling.
        rms_to_solution: Root mean square, over pixels in [-1, 1], of the difference to the exact
            solution of the ODE from the same noise; None for samplers that draw noise.
        readings: What the judge says, by the names of its figures.
    """

    seconds_per_image: float
    rms_to_solution: float | None
    readings: Mapping[str, Reading]

    def __str__(self) -> str:
        gap = [] if self.rms_to_solution is None else [f"RMS {self.rms_to_solution:.4f}"]
        seen = [f"{name} {reading.value:.4g}" for name, reading in self.readings.items()]
        return ", ".join([*gap, *seen, f"{self.seconds_per_image:.3g} s per image"])


@dataclass(frozen=True, kw_only=True)
class Row:
    """A setting with what was measured of it, None where it does not apply.

    Arguments:
        setting: The sampler.
        num_seeds: Over how many seeds.
        variance_kept: On the exact denoiser of a Gaussian; 1 is right.
        metrics: Mean and deviation over seeds, by name.
        intervals: Of the means of the judge's figures, 95 %, by name.
    """

    setting: Setting
    num_seeds: int
    variance_kept: float
    metrics: Mapping[str, Spread | None]
    intervals: Mapping[str, Interval]

    @property
    def calls(self) -> int:
        """Network calls for one image."""
        return self.setting.sampler.calls

    def flat(self) -> dict[str, float]:
        """The means, under names for a tracker."""
        prefix = f"curve/{self.setting.name}_{self.setting.sampler.steps}"
        means = {f"{prefix}/{k}": v.mean for k, v in self.metrics.items() if v is not None}
        return {**means, f"{prefix}/variance_kept": self.variance_kept}


def summarise(setting: Setting, measured: Sequence[Measurement], *, variance_kept: float) -> Row:
    """Mean and standard deviation over seeds.

    The interval of a judge's figure is Student's over several seeds, and for want of images, as in
    an evaluation, of a single one.
    """
    names = list(measured[0].readings)
    metrics = {
        SECONDS: over_seeds(m.seconds_per_image for m in measured),
        RMS: over_seeds(m.rms_to_solution for m in measured),
        **{name: over_seeds(m.readings[name].value for m in measured) for name in names},
    }
    return Row(
        setting=setting,
        num_seeds=len(measured),
        variance_kept=variance_kept,
        metrics=metrics,
        intervals={
            name: measured[0].readings[name].interval
            if len(measured) == 1
            else _possible(name, student_t([m.readings[name].value for m in measured]))
            for name in names
        },
    )


def _possible(name: str, interval: Interval) -> Interval:
    """No wider than what a figure can be: a share, or a distance."""
    most = 1.0 if name.startswith("label_agreement") else float("inf")
    return Interval(max(0.0, interval.low), min(most, interval.high))


def table(rows: Sequence[Row], real: Mapping[str, float], *, images: int) -> list[list[object]]:
    """The names of the columns, one line per row, the reference first, then training images.

    Arguments:
        rows: As measured.
        real: What training images get, by the names of the judge's figures.
        images: Per row and seed.

    Returns:
        Strings and numbers; None where a metric does not apply.
    """
    header = ["sampler", "grid", "steps", "calls", "seeds", "images_per_seed", "variance_kept"]
    timed = [f"{name}{end}" for name in (SECONDS, RMS) for end in ("", "_sd")]
    seen = [f"{name}{end}" for name in real for end in ("", "_sd", "_low", "_high")]
    lines: list[list[object]] = [[*header, *timed, *seen]]
    for row in rows:
        setting, steps = row.setting, row.setting.sampler.steps
        cells: list[object] = [setting.name, setting.grid, steps, row.calls, row.num_seeds]
        cells += [images, row.variance_kept]
        for name in (SECONDS, RMS):
            cells += (row.metrics[name] or (None, None))[:2]
        for name in real:
            spread = row.metrics[name]
            assert spread is not None
            cells += [spread.mean, spread.sd, *row.intervals[name]]
        lines.append(cells)
    of_real = [cell for value in real.values() for cell in (value, None, None, None)]
    nothing = [None] * len(timed)
    lines.append(["training images", None, None, None, None, images, None, *nothing, *of_real])
    return lines


def write_csv(lines: Sequence[Sequence[object]], path: Path) -> None:
    """Writes a table, whole or not at all."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in line] for line in lines)
    write_text(path, text.getvalue())


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else csv_cell(value)
