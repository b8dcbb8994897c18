"""A comparison as one HTML page: figures, curves and pictures inside, nothing to fetch.

The page stays below some 8 MB: with many runs, curves have fewer points and pictures are smaller,
then fewer.
"""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ccdiff.compare.cost import KINDS, reaches, usual_thresholds
from ccdiff.compare.pictures import embedded
from ccdiff.compare.read import Curve, Job
from ccdiff.compare.standing import Standing, standing
from ccdiff.compare.table import Comparison, direction, shown
from ccdiff.pages.html import look
from ccdiff.system.text import printable

__all__ = ["page"]

_GRID = re.compile(r"ema_(\d+)\.png")
_MAX_STEPS = 16
_CURVE_POINTS = 400
"""More than a plot of a thousand pixels shows."""
_ALL_POINTS = 130_000
_PICTURES_BYTES = 3_500_000
_LEGIBLE_BYTES = 9_000
"""Bytes of a picture: before they get smaller than that, fewer steps are shown."""


def page(
    comparison: Comparison,
    *,
    title: str,
    by: str = "images",
    asked: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """The page as text.

    Arguments:
        comparison: What to show.
        title: Its heading.
        by: What a cost is counted in, one of :data:`~ccdiff.compare.cost.KINDS`.
        asked: Thresholds of figures, for the cost of reaching them; of others the usual ones.
    """
    # "<" would end the script element where a value contains "</script>".
    data = json.dumps(_content(comparison, title, by, asked or {})).replace("<", "\\u003c")
    text = _part("compare.html")
    for mark, part in (
        ("/*style*/", look() + _part("compare.css")),
        ("/*script*/", _part("compare_plots.js") + _part("compare.js")),
        ("/*data*/", data),
    ):
        text = text.replace(mark, part, 1)
    return text


def _part(name: str) -> str:
    return (files("ccdiff.compare") / name).read_text()


def _content(
    comparison: Comparison, title: str, by: str, asked: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """What the script draws."""
    jobs = comparison.jobs
    number = {id(job): i for i, job in enumerate(jobs)}
    grids = [_grids(job) for job in jobs]
    steps = _steps(grids)
    comparable = not comparison.data_differ
    leads = {
        metric: standing(comparison, metric) if comparable else None
        for metric in comparison.metrics
    }
    num_curves = sum(metric in job.curves for job in jobs for metric in comparison.metrics)
    points = max(2, min(_CURVE_POINTS, _ALL_POINTS // max(1, num_curves)))
    # The last of each run, too: one that was good enough ended at a step of its own.
    shown_grids = [
        {step: path for step, path in g.items() if step in steps or step == max(g)} for g in grids
    ]
    room = _PICTURES_BYTES // max(1, sum(map(len, shown_grids)))
    return {
        "title": printable(title),
        "axes": comparison.axes,
        "by": KINDS[by],
        "metrics": [
            {
                "key": metric,
                "better": direction(metric) if comparable else None,
                **_standing(comparison, leads[metric]),
                "cost": _cost(comparison, metric, by, asked.get(metric)) if comparable else None,
            }
            for metric in comparison.metrics
        ],
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
        "jobs": [
            {
                **_job(job),
                "curves": {
                    metric: _curve(job, job.curves[metric], points)
                    for metric in comparison.metrics
                    if metric in job.curves
                },
                "grids": {
                    step: uri
                    for step, path in pictures.items()
                    if (uri := embedded(path, most_bytes=room)) is not None
                },
            }
            for job, pictures in zip(jobs, shown_grids, strict=True)
        ],
    }


def _standing(comparison: Comparison, lead: Standing | None) -> dict[str, Any]:
    """Who leads by a figure, in words and by numbers of settings, and those tied with it."""
    if lead is None:
        return {"lead": None, "tied": [], "standing": None}
    number = {id(setting): i for i, setting in enumerate(comparison.settings)}
    return {
        "lead": number[id(lead.lead)],
        "tied": [number[id(other)] for other in lead.tied],
        "standing": printable(lead.text),
    }


def _cost(
    comparison: Comparison, metric: str, by: str, asked: Sequence[float] | None
) -> dict[str, Any] | None:
    """What it costs each setting to reach thresholds of a figure; None where none is better."""
    if direction(metric) is None:
        return None
    thresholds = list(asked or usual_thresholds(comparison, metric))
    return {
        "thresholds": thresholds,
        "settings": [
            [
                {
                    "spread": reach.spread,
                    "reached": reach.reached,
                    "runs": reach.runs,
                    "unknown": reach.unknown,
                    "costs": [None if cost is None else _short(cost) for cost in reach.costs],
                }
                for reach in row
            ]
            for row in reaches(comparison, metric, thresholds, by)
        ],
    }


def _job(job: Job) -> dict[str, Any]:
    return {
        "name": printable(job.run.path.name),
        "seed": shown(job.config.get("seed")),
        "status": job.record.status if job.record else "",
        "problem": None if job.problem is None else printable(job.problem),
        "command": printable(job.record.command) if job.record else "",
        "results": {name: _short(value) for name, value in job.results.items()},
    }


def _curve(job: Job, curve: Curve, points: int) -> list[tuple[int, float | None, float]]:
    """Images seen, seconds of training (None where nothing was timed by then) and value."""
    places = curve.places(points)
    steps = [curve.steps[i] for i in places]
    values = [_short(curve.values[i]) for i in places]
    return [
        (step * job.images_per_step, seconds, value)
        for step, seconds, value in zip(steps, job.seconds(steps), values, strict=True)
    ]


def _short(value: float) -> float:
    """To as many digits as a page shows."""
    return float(f"{value:.6g}")


def _grids(job: Job) -> dict[int, Path]:
    found = [(_GRID.fullmatch(path.name), path) for path in sorted(job.run.samples.glob("*.png"))]
    return {int(match[1]): path for match, path in found if match}


def _steps(grids: list[dict[int, Path]]) -> list[int]:
    """Steps at which there are grids, thinned out evenly; the last always stays."""
    steps = sorted(set().union(*grids))
    drawn = max(1, sum(1 for g in grids if g))
    most = max(1, min(_MAX_STEPS, _PICTURES_BYTES // (_LEGIBLE_BYTES * drawn)))
    if len(steps) <= most:
        return steps
    last = len(steps) - 1
    return (
        [steps[last]] if most == 1 else [steps[round(i * last / (most - 1))] for i in range(most)]
    )
