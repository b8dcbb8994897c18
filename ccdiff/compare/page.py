"""A comparison as one HTML page: figures, curves and pictures inside, nothing to fetch."""

import base64
import io
import json
import math
import re
from bisect import bisect_right
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

from ccdiff.compare.table import MAIN, Comparison, Job, higher_is_better, shown

__all__ = ["page"]

_GRID = re.compile(r"ema_(\d+)\.png")
_MAX_STEPS = 16
_MAX_WIDTH = 480
_MAX_BYTES = 48_000


def page(comparison: Comparison, *, title: str) -> str:
    """The page as text.

    Arguments:
        comparison: What to show.
        title: Its heading.
    """
    # "<" would end the script element where a value contains "</script>".
    data = json.dumps(_content(comparison, title)).replace("<", "\\u003c")
    text = _part("compare.html")
    for mark, part in (
        ("/*style*/", _part("compare.css")),
        ("/*script*/", _part("compare_plots.js") + _part("compare.js")),
        ("/*data*/", data),
    ):
        text = text.replace(mark, part, 1)
    return text


def _part(name: str) -> str:
    return (files("ccdiff.compare") / name).read_text()


def _content(comparison: Comparison, title: str) -> dict[str, Any]:
    """What the script draws."""
    number = {id(job): i for i, job in enumerate(comparison.jobs)}
    steps = _steps(comparison.jobs)
    comparable = not comparison.data_differ
    best = comparison.best(MAIN) if comparable else None
    return {
        "title": title,
        "axes": comparison.axes,
        "metrics": [
            # What the loss measures differs between schedules, predictions and weightings.
            {"key": m, "higher": higher_is_better(m), "ranked": comparable and m != "train/loss"}
            for m in comparison.metrics
        ],
        "best": None if best is None else comparison.settings.index(best),
        "steps": steps,
        "settings": [
            {
                "label": setting.label,
                "values": {axis: shown(value) for axis, value in setting.values.items()},
                "jobs": [number[id(job)] for job in setting.jobs],
                "metrics": {m: setting.spread(m) for m in comparison.metrics},
            }
            for setting in comparison.settings
        ],
        "jobs": [_job(job, comparison, steps) for job in comparison.jobs],
    }


def _job(job: Job, comparison: Comparison, steps: list[int]) -> dict[str, Any]:
    return {
        "name": job.run.path.name,
        "seed": shown(job.config.get("seed")),
        "status": job.record.status if job.record else "",
        "problem": job.problem,
        "command": job.record.command if job.record else "",
        "results": job.results,
        "curves": {metric: _curve(job, metric) for metric in comparison.metrics},
        "grids": {step: _embedded(path) for step, path in _grids(job).items() if step in steps},
    }


def _curve(job: Job, metric: str) -> list[tuple[int, float | None, float]]:
    """Images seen, seconds of training (None where nothing was timed by then) and value."""
    timed = [(row["step"], row["train/seconds"]) for row in job.rows if "train/seconds" in row]
    per_step = job.config.get("trainer.batch_size", 1)
    return [
        (row["step"] * per_step, _seconds(row["step"], timed), row[metric])
        for row in job.rows
        # JSON has no other numbers.
        if metric in row and math.isfinite(row[metric])
    ]


def _seconds(step: int, timed: list[tuple[int, float]]) -> float | None:
    """Interpolated between the steps whose time is known."""
    points = [(0, 0.0), *timed]
    i = bisect_right(points, (step, float("inf")))
    if len(points) == 1:
        return None
    if i == len(points):
        i -= 1
    (a, t), (b, u) = points[i - 1], points[i]
    return round(t + (u - t) * (step - a) / max(b - a, 1), 3)


def _grids(job: Job) -> dict[int, Path]:
    found = [(_GRID.fullmatch(path.name), path) for path in sorted(job.run.samples.glob("*.png"))]
    return {int(match[1]): path for match, path in found if match}


def _steps(jobs: list[Job]) -> list[int]:
    """Steps at which there are grids, thinned out evenly; the last always stays."""
    steps = sorted({step for job in jobs for step in _grids(job)})
    if len(steps) <= _MAX_STEPS:
        return steps
    last = len(steps) - 1
    return [steps[round(i * last / (_MAX_STEPS - 1))] for i in range(_MAX_STEPS)]


def _embedded(path: Path) -> str:
    """A picture as a data URI: as it is where small, else made smaller."""
    content, kind = path.read_bytes(), "png"
    if len(content) > _MAX_BYTES:
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((_MAX_WIDTH, 4 * _MAX_WIDTH))
            buffer = io.BytesIO()
            small.save(buffer, format="JPEG", quality=85)
        content, kind = buffer.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
