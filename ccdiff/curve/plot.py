"""The picture of a curve: quality against network calls and against wall time."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ccdiff.curve.table import RMS, SECONDS, Row
from ccdiff.pages.figures import COLOURS, FAINT, GRID, INK, MARKERS, STYLES, figure_of, save_figure

__all__ = ["plot_curve"]

_FONT = 9
_COSTS = ("network calls per image", "seconds per image")
_FAR = 3.0
"""A reference that costs so many times more than all others is a line alone."""

Point = tuple[float, float, float, float]
"""Cost, value, and where its bar ends below and above."""


def plot_curve(rows: Sequence[Row], real: Mapping[str, float], path: Path, *, title: str) -> None:
    """Draws one line per sampler.

    Bars are one standard deviation over seeds, or of a single seed the 95 % interval for want of
    images.

    Arguments:
        rows: The reference first.
        real: What training images get, by the names of the judge's figures.
        path: Where to; its ending is the format.
        title: What was sampled.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    metrics = [*reversed(list(real)), RMS, "variance_kept"]
    figure = figure_of(11, 3.7 * len(metrics))
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    panels = figure.subplots(len(metrics), 2, sharex="col", sharey="row")
    levels = {metric: (_shown(metric, value), "training images") for metric, value in real.items()}
    levels["variance_kept"] = (1.0, "exact")
    for metric, pair in zip(metrics, panels, strict=True):
        for axes, by_time in zip(pair, (False, True), strict=True):
            _panel(axes, rows, metric, by_time=by_time, level=levels.get(metric))
        pair[0].set_ylabel(_axis_name(metric), color=INK)
        if pair[0].get_yscale() == "log":
            _number(pair[0].yaxis)
    for axes, text in zip(panels[-1], _COSTS, strict=True):
        axes.set_xlabel(text, color=INK)
        _number(axes.xaxis)
    named: dict[str, Any] = {}
    for axes in panels.flat:
        handles, names = axes.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=_FONT + 4)
    figure.legend(
        list(named.values()), list(named), loc="outside lower left", ncols=6, frameon=False,
        fontsize=_FONT,
    )  # fmt: skip
    save_figure(figure, path, dpi=130)


def _axis_name(metric: str) -> str:
    if metric == RMS:
        return "RMS to the exact ODE solution (pixels in [-1, 1])"
    if metric == "variance_kept":
        return "variance kept on a Gaussian's exact denoiser"
    return f"{metric} (%)" if _is_share(metric) else metric.replace("_to_heldout", " to held-out")


def _is_share(metric: str) -> bool:
    return metric.startswith("label_agreement")


def _shown(metric: str, value: float) -> float:
    return 100 * value if _is_share(metric) else value


def _panel(
    axes: Any, rows: Sequence[Row], metric: str, *, by_time: bool, level: tuple[float, str] | None
) -> None:
    """Draws the lines of one panel, and of ``level`` what is right, by its name."""
    axes.set_xscale("log")
    axes.set_yscale("linear" if _is_share(metric) else "log")
    axes.grid(True, which="major", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=_FONT)
    axes.spines[["top", "right"]].set_visible(False)
    reference, *others = rows
    places = [_place(row, by_time=by_time) for row in others]
    far = bool(places) and _place(reference, by_time=by_time) > _FAR * max(places)
    places += [] if far else [_place(reference, by_time=by_time)]
    # Stated, since a log axis finds no limits for a single point.
    axes.set_xlim(0.75 * min(places), 1.35 * max(places))
    axes.margins(y=0.1)
    if not _is_share(metric):
        _leave_room(axes, rows, metric, level)
    if level is not None:
        _level(axes, *level)
    _reference(axes, reference, metric, by_time=by_time, far=far)
    drawn = False
    lines = [list(group) for _, group in groupby(others, key=lambda row: row.setting.name)]
    for i, line in enumerate(lines):
        points = [p for row in line if (p := _point(row, metric, by_time=by_time)) is not None]
        drawn = drawn or bool(points)
        look = {
            "color": COLOURS[i % len(COLOURS)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": STYLES[i % len(STYLES)],
        }
        _line(axes, points, line[0].setting.name, look)
    if not drawn and metric == RMS:
        axes.text(0.5, 0.5, "no deterministic sampler", transform=axes.transAxes, ha="center",
                  color=FAINT)  # fmt: skip


def _place(row: Row, *, by_time: bool) -> float:
    seconds = row.metrics[SECONDS]
    assert seconds is not None
    return seconds.mean if by_time else row.calls


def _point(row: Row, metric: str, *, by_time: bool) -> Point | None:
    """Where a row lies; None where it has no such figure, or a log axis no room for it."""
    place = _place(row, by_time=by_time)
    if metric == "variance_kept":
        return place, row.variance_kept, row.variance_kept, row.variance_kept
    spread = row.metrics[metric]
    # The solution itself is no distance away from it.
    if spread is None or (spread.mean <= 0 and not _is_share(metric)):
        return None
    low = high = spread.mean
    if spread.sd is not None:
        low, high = spread.mean - spread.sd, spread.mean + spread.sd
    elif metric in row.intervals:
        low, high = row.intervals[metric]
    # On a log axis a bar that reaches zero would run off the picture; no share exceeds 100 %.
    least, most = (0.0, 1.0) if _is_share(metric) else (0.1 * spread.mean, float("inf"))
    value, low, high = (_shown(metric, u) for u in (spread.mean, max(low, least), min(high, most)))
    return place, value, low, high


def _reference(axes: Any, row: Row, metric: str, *, by_time: bool, far: bool) -> None:
    """A dashed line at the reference's figure, and a star where it lies within the picture."""
    point = _point(row, metric, by_time=by_time)
    if point is None:
        return
    name = f"{row.setting.name}, {row.setting.sampler.steps} steps (reference)"
    dashes = (0, (4, 4))
    axes.axhline(point[1], color=INK, linewidth=0.9, linestyle=dashes, zorder=1, label=name)
    if not far:
        axes.plot(*point[:2], color=INK, marker="*", markersize=11, markeredgecolor="white")


def _line(axes: Any, points: Sequence[Point], name: str, look: Mapping[str, Any]) -> None:
    x, y, low, high = zip(*points, strict=True) if points else ((), (), (), ())
    down = [value - end for value, end in zip(y, low, strict=True)]
    up = [end - value for value, end in zip(y, high, strict=True)]
    axes.errorbar(
        x,
        y,
        yerr=[down, up],
        label=name,
        **look,
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linewidth=1.6,
        elinewidth=1.0,
        capsize=2.5,
        zorder=3,
    )


def _level(axes: Any, y: float, name: str) -> None:
    """A line for what is right."""
    axes.axhline(y, color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)), zorder=1, label=name)


def _leave_room(
    axes: Any, rows: Sequence[Row], metric: str, level: tuple[float, str] | None
) -> None:
    """Limits for values that are all about the same, to which matplotlib fits a log axis."""
    points = [p for row in rows if (p := _point(row, metric, by_time=False)) is not None]
    values = [value for point in points for value in point[1:]] + ([level[0]] if level else [])
    if values and max(values) < 1.01 * min(values):
        axes.set_ylim(0.75 * min(values), 1.35 * max(values))


def _number(axis: Any) -> None:
    """Plain numbers on a log axis, where powers of ten alone would be too few."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 6 * low else (1, 2, 3, 4, 5, 7)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())
