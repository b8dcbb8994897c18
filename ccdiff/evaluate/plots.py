"""The curves over noise levels of an evaluation's page."""

from itertools import pairwise
from pathlib import Path

from ccdiff.metrics.label_use import BIN_EDGES, LabelUse, by_level

__all__ = ["plot_levels"]

_TOLD, _OTHER, _INK = "#2a6f97", "#c1572f", "#333333"


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
    figure.savefig(path, dpi=120)
    return path
