"""A run at a glance: what it is, how it went, what it draws; for pages and notebooks."""

import base64
import io
from pathlib import Path
from textwrap import shorten
from typing import Any

from ccdiff.pages.figures import COLOURS, figure_of
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from ccdiff.runs.record import read_record
from ccdiff.system.text import html_text

__all__ = ["html_of", "line_of", "training_figure"]

_OVER_STEPS = {
    "evaluate/label_agreement_classifier": "label agreement",
    "evaluate/label_error_regressor": "label error",
    "evaluate/fd_classifier_to_heldout": "fd_classifier",
    "evaluate/fd_regressor_to_heldout": "fd_regressor",
    "heldout/eps_mse": "held-out error on the noise",
}


def training_figure(run: Run) -> Any | None:
    """What was logged over training, one panel per figure.

    Returns:
        A figure of matplotlib; None where nothing was logged twice.
    """
    rows = read_metrics(run.metrics)
    curves = {
        title: [(row["step"], row[key]) for row in rows if key in row]
        for key, title in _OVER_STEPS.items()
    }
    curves = {title: points for title, points in curves.items() if len(points) > 1}
    if not curves:
        return None
    figure = figure_of(3 * max(2, len(curves)), 2.8)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (title, points) in zip(panels, curves.items(), strict=True):
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, "o-", color=COLOURS[0], markersize=3)
        axes.set(xlabel="step", title=title)
        if title != "label agreement" and min(values) > 0 and max(values) > 10 * min(values):
            axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def line_of(run: Run) -> str:
    """What a run is and how it stands, in a line."""
    record = read_record(run)
    if record is None:
        return f"<Run {run.path}>"
    how = f"{record.status} at step {record.step}"
    result = "" if record.result is None else f", held-out error {record.result:.4g}"
    return f"<Run {run.path}: {shorten(record.title, 90)}; {how}{result}>"


def html_of(run: Run) -> str:
    """The same with the last figures, the latest grid and the curves, as HTML without a script."""
    record = read_record(run)
    title = record.title if record else run.path.name
    parts = [
        f"<b>{html_text(shorten(title, 200))}</b><br><small>{html_text(str(run.path))}</small>"
    ]
    if record:
        parts.append(
            f"<p>{html_text(record.status)} at step {record.step}, "
            f"{record.training_seconds:.0f} s of training</p>"
        )
    if last := _last_figures(run):
        cells = "".join(
            f'<tr><td style="text-align:left">{html_text(name)}</td><td>{value:.4g}</td></tr>'
            for name, value in last.items()
        )
        parts.append(f"<table>{cells}</table>")
    if (grid := _latest_grid(run)) is not None:
        parts.append(_image(grid.read_bytes(), f"samples of {title}: {grid.name}"))
    if (figure := training_figure(run)) is not None:
        curve = io.BytesIO()
        figure.savefig(curve, format="png", dpi=120)
        parts.append(_image(curve.getvalue(), "figures over training"))
    return f"<div>{''.join(parts)}</div>"


def _last_figures(run: Run) -> dict[str, float]:
    """The last value of each figure of held-out images and samples."""
    rows = read_metrics(run.metrics)
    wanted: dict[str, Any] = {}
    for row in rows:
        wanted |= {k: v for k, v in row.items() if k.startswith(("heldout/", "evaluate/"))}
    return {k: v for k, v in wanted.items() if k in _OVER_STEPS or "_log_snr_" not in k}


def _latest_grid(run: Run) -> Path | None:
    """The grid of the end, or the newest one with averaged weights."""
    final = run.samples / "grid.png"
    on_the_way = sorted(run.samples.glob("ema_*.png"))
    return final if final.exists() else on_the_way[-1] if on_the_way else None


def _image(png: bytes, alt: str) -> str:
    source = base64.b64encode(png).decode()
    return (
        f'<img style="max-width:100%;background:#fff" alt="{html_text(alt)}" '
        f'src="data:image/png;base64,{source}">'
    )
