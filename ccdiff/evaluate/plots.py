"""The curves of an evaluation's page."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from ccdiff.metrics.label_use import BIN_EDGES, LabelUse, by_level
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics

__all__ = ["plot_levels", "plot_training"]

_TOLD, _OTHER, _INK = "#2a6f97", "#c1572f", "#333333"
_OVER_STEPS = {
    "evaluate/label_agreement_classifier": "label agreement",
    "evaluate/fd_classifier_to_heldout": "fd_classifier",
    "heldout/eps_mse": "held-out error on the noise",
}


def plot_levels(use: LabelUse, path: Path) -> Path:
    """Errors over noise levels with and without the label, and their difference beside."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    middles = [(low + high) / 2 for low, high in pairwise(BIN_EDGES)]
    other = "label hidden" if use.hidden else "wrong label"
    left.plot(middles, by_level(use.other).tolist(), "o-", color=_OTHER, label=other)
    left.plot(middles, by_level(use.told).tolist(), "o-", color=_TOLD, label="true label")
    left.set(ylabel="squared error on the noise", yscale="log")
    left.legend(frameon=False)
    share = 100 * by_level(use.gain) / by_level(use.other)
    right.bar(middles, share.tolist(), width=2.4, color=_TOLD)
    right.axhline(0, color=_INK, linewidth=0.8)
    right.set(ylabel="lower for the label, %")
    for axes in (left, right):
        axes.set(xlabel="log-SNR: noisy to clean")
        axes.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def plot_training(run: Run, path: Path) -> Path | None:
    """What was logged over training, one panel per figure; None where nothing was."""
    rows = read_metrics(run.metrics)
    curves = {
        title: [(row["step"], row[key]) for row in rows if key in row]
        for key, title in _OVER_STEPS.items()
    }
    curves = {title: points for title, points in curves.items() if len(points) > 1}
    if not curves:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (title, points) in zip(panels, curves.items(), strict=True):
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, "o-", color=_TOLD, markersize=3)
        axes.set(xlabel="step", title=title)
        if title != "label agreement" and min(values) > 0 and max(values) > 10 * min(values):
            axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=120)
    return path
