"""The curves over noise levels of an evaluation's page."""

from itertools import pairwise
from typing import Any

from ccdiff.metrics.label_use import BIN_EDGES, LabelUse, by_level
from ccdiff.pages.figures import COLOURS, INK, figure_of

__all__ = ["levels_figure"]


def levels_figure(use: LabelUse) -> Any:
    """Errors over noise levels with and without the label, and their difference beside."""
    figure = figure_of(9, 3.2)
    left, right = figure.subplots(1, 2)
    middles = [(low + high) / 2 for low, high in pairwise(BIN_EDGES)]
    other = "label hidden" if use.hidden else "wrong label"
    left.plot(middles, by_level(use.other).tolist(), "s--", color=COLOURS[1], label=other)
    left.plot(middles, by_level(use.told).tolist(), "o-", color=COLOURS[0], label="true label")
    left.set(ylabel="squared error on the noise", yscale="log")
    left.legend(frameon=False)
    share = 100 * by_level(use.gain) / by_level(use.other)
    right.bar(middles, share.tolist(), width=2.4, color=COLOURS[0])
    right.axhline(0, color=INK, linewidth=0.8)
    right.set(ylabel="lower for the label, %")
    for axes in (left, right):
        axes.set(xlabel="log-SNR: noisy to clean")
        axes.spines[["top", "right"]].set_visible(False)
    return figure
