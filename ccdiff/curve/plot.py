"""The picture of a curve: quality against network calls and against wall time."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ccdiff.curve.table import Measurement, Row, Spread
from ccdiff.system.atomic import write_whole

__all__ = ["plot_curve", "spread_out"]

# Okabe & Ito, Color Universal Design, 2008, less yellow: told apart by the colour-blind too.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_INK, _FAINT = "#333333", "#9a9a9a"
_FONT = 9
_COSTS = ("network calls per image", "seconds per image")
_PANELS = (
    ("fd_classifier", "fd_classifier to held-out images", "log"),
    ("label_agreement", "label agreement (%)", "linear"),
    ("rms_to_solution", "RMS to the exact ODE solution", "log"),
)


def plot_curve(rows: Sequence[Row], real: Measurement, path: Path, *, title: str) -> None:
    """Draws one line per sampler, with error bars of one standard deviation over seeds.

    Arguments:
        rows: The reference first.
        real: What training images get.
        path: Where to.
        title: What was sampled.
    """
    # Without pyplot, which would want a display and keeps every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(
        figsize=(11, 11.5), dpi=130, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    )
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(len(_PANELS), 2, sharex="col", sharey="row")
    figure.suptitle(title, x=0.01, ha="left", color=_INK, fontsize=_FONT + 4)
    labels: list[tuple[Any, list[tuple[float, float, str, str]]]] = []
    for (metric, name, scale), pair in zip(_PANELS, panels, strict=True):
        for axes, by_time in zip(pair, (False, True), strict=True):
            axes.set_yscale(scale)
            axes.set_xscale("log")
            labels.append((axes, _panel(axes, rows, metric, by_time=by_time)))
            if metric != "rms_to_solution":
                _level(axes, _shown(metric, getattr(real, metric)), "training images")
        pair[0].set_ylabel(name, color=_INK)
    for axes, text in zip(panels[-1], _COSTS, strict=True):
        axes.set_xlabel(text, color=_INK)
        _number(axes.xaxis)
    for (_, _, scale), (axes, _) in zip(_PANELS, panels, strict=True):
        if scale == "log":
            _number(axes.yaxis)
    canvas.draw()
    for axes, ends in labels:
        _label_ends(axes, ends)
    write_whole(path, lambda file: figure.savefig(file, format="png"))


def _shown(metric: str, value: float) -> float:
    return 100 * value if metric == "label_agreement" else value


def _panel(
    axes: Any, rows: Sequence[Row], metric: str, *, by_time: bool
) -> list[tuple[float, float, str, str]]:
    """Draws the lines of one panel; returns where each ends, its name and its colour."""
    axes.grid(True, which="major", color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=_FONT)
    axes.spines[["top", "right"]].set_visible(False)
    places = [_place(row, by_time=by_time) for row in rows]
    # Stated, since a log axis finds no limits for a single point; more room where names go.
    axes.set_xlim(0.75 * min(places), 1.6 * max(places))
    reference, *others = rows
    ends = []
    lines = [[reference], *(list(g) for _, g in groupby(others, key=lambda r: r.setting.name))]
    for i, line in enumerate(lines):
        points = [
            (_place(row, by_time=by_time), spread)
            for row in line
            # The solution itself is no distance away from it, which a log axis cannot show.
            if (spread := row.metrics[metric]) is not None and spread.mean > 0
        ]
        if not points:
            continue
        color = _INK if i == 0 else _COLORS[(i - 1) % len(_COLORS)]
        marker = "*" if i == 0 else _MARKERS[(i - 1) % len(_MARKERS)]
        _line(axes, points, metric, color=color, marker=marker, size=11 if i == 0 else 5)
        x, y = points[-1][0], _shown(metric, points[-1][1].mean)
        name = line[0].setting.name
        ends.append((x, y, f"{name}-{line[0].setting.sampler.steps}" if i == 0 else name, color))
        if i == 0:
            axes.axhline(y, color=_INK, linewidth=0.8, linestyle=(0, (4, 4)), zorder=1)
    axes.margins(y=0.1)
    return ends


def _place(row: Row, *, by_time: bool) -> float:
    seconds = row.metrics["seconds_per_image"]
    assert seconds is not None
    return seconds.mean if by_time else row.calls


def _line(
    axes: Any,
    points: Sequence[tuple[float, Spread]],
    metric: str,
    *,
    color: str,
    marker: str,
    size: float,
) -> None:
    x = [place for place, _ in points]
    y = [_shown(metric, spread.mean) for _, spread in points]
    errors = [_shown(metric, spread.sd or 0.0) for _, spread in points]
    # On a log axis a bar that reaches zero would run off the picture; no share exceeds 100 %.
    down = [min(error, 0.9 * value) for error, value in zip(errors, y, strict=True)]
    most = 100.0 if metric == "label_agreement" else float("inf")
    up = [min(error, most - value) for error, value in zip(errors, y, strict=True)]
    axes.errorbar(
        x,
        y,
        yerr=[down, up],
        color=color,
        marker=marker,
        markersize=size,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linewidth=1.6,
        elinewidth=1.0,
        capsize=2.5,
        zorder=3,
    )


def _number(axis: Any) -> None:
    """Plain numbers on a log axis, where powers of ten alone would be too few."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 6 * low else (1, 2, 3, 4, 5, 7)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def _halo() -> list[Any]:
    """Keeps words readable on lines."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]


def _level(axes: Any, y: float, name: str) -> None:
    """A line for what real images get, named at its left end."""
    axes.axhline(y, color=_FAINT, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    axes.annotate(
        name,
        (0.01, y),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=_FAINT,
        fontsize=_FONT - 1,
        path_effects=_halo(),
    )


def _label_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names each line at its end, moved up or down where names would overlap."""
    if not ends:
        axes.text(
            0.5,
            0.5,
            "no deterministic sampler",
            transform=axes.transAxes,
            ha="center",
            color=_FAINT,
        )
        return
    pixels = axes.transData.transform([(x, y) for x, y, _, _ in ends])
    line_height = 1.25 * _FONT * axes.figure.dpi / 72
    heights = spread_out([float(y) for _, y in pixels], gap=line_height)
    for (x, y, name, color), (_, before), after in zip(ends, pixels, heights, strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(8, (after - before) * 72 / axes.figure.dpi),
            textcoords="offset points",
            va="center",
            color=color,
            fontsize=_FONT,
            fontweight="bold",
            annotation_clip=False,
            path_effects=_halo(),
            zorder=5,
        )


def spread_out(places: Sequence[float], *, gap: float) -> list[float]:
    """Places at least ``gap`` apart, in the same order, each group kept around its own middle."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[list[int]] = []

    def middle(group: Sequence[int]) -> float:
        return sum(places[i] for i in group) / len(group)

    for i in order:
        groups.append([i])
        while len(groups) > 1 and (
            middle(groups[-1]) - middle(groups[-2]) < gap * (len(groups[-1]) + len(groups[-2])) / 2
        ):
            last = groups.pop()
            groups[-1] += last
    spread = list(places)
    for group in groups:
        for rank, i in enumerate(group):
            spread[i] = middle(group) + gap * (rank - (len(group) - 1) / 2)
    return spread
