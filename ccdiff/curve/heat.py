"""The picture of a map: a panel of coloured cells for each figure, the best one framed."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ccdiff.metrics.over_seeds import Spread
from ccdiff.pages.figures import COLOURS, INK, figure_of, save_figure

__all__ = ["plot_map"]

_FRAME = COLOURS[1]
_SMALL = 8
_DARK = 0.55
"""The share of the colour scale above which numbers are written in white."""


def plot_map(
    figures: Mapping[str, Sequence[Sequence[Spread]]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    real: Mapping[str, float],
    paths: Sequence[Path],
    title: str,
) -> None:
    """Draws a panel for each figure: weights downwards, scales to the right, darker is better.

    Below each mean is its standard deviation over seeds, which tells how much a frame is worth.

    Arguments:
        figures: By name, one over seeds for each row and column.
        rows: Names of the weights.
        columns: Names of the scales.
        real: What training images get, by name.
        paths: Where to; their endings are the formats.
        title: What was sampled.
    """
    from matplotlib.patches import Rectangle

    size = (2.2 + 1.1 * len(columns) * len(figures) + 1.2 * len(figures), 1.9 + 0.55 * len(rows))
    figure = figure_of(max(8.0, size[0]), max(3.2, size[1]))
    panels = figure.subplots(1, len(figures), squeeze=False)[0]
    for axes, (name, spreads) in zip(panels, figures.items(), strict=True):
        share = name.startswith("label_agreement")
        values = [[spread.mean for spread in line] for line in spreads]
        flat = [value for line in values for value in line]
        low, high = min(flat), max(flat)
        best = max(flat) if share else min(flat)
        good = [[_goodness(value, low, high, rising=share) for value in line] for line in values]
        axes.imshow(good, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, line in enumerate(values):
            for j, value in enumerate(line):
                color = "white" if good[i][j] > _DARK else INK
                sd = spreads[i][j].sd
                place = "center" if sd is None else "bottom"
                axes.text(j, i, _shown(value, share), ha="center", va=place, color=color)
                if sd is not None:
                    below = f"± {100 * sd if share else sd:.{_decimals(value, share)}f}"
                    axes.text(
                        j, i + 0.06, below, ha="center", va="top", color=color, fontsize=_SMALL
                    )
                if value == best:
                    frame = Rectangle((j - 0.47, i - 0.46), 0.94, 0.92)
                    frame.set(fill=False, edgecolor=_FRAME, linewidth=2)
                    axes.add_patch(frame)
        axes.set_xticks(range(len(columns)), list(columns), color=INK)
        axes.set_yticks(range(len(rows)), list(rows), color=INK)
        axes.set_ylabel("weights (width of the average)", color=INK, fontsize=_SMALL + 1)
        head = f"{name}\n(training images: {_shown(real[name], share)})"
        axes.set_title(head, fontsize=10, color=INK)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    figure.suptitle(title, x=0.01, ha="left", color=INK)
    for path in paths:
        save_figure(figure, path, dpi=130)


def _decimals(value: float, share: bool) -> int:
    """So many that there are three digits; of a percentage one."""
    return 1 if share else max(0, 2 - math.floor(math.log10(max(value, 1e-3))))


def _shown(value: float, share: bool) -> str:
    decimals = _decimals(value, share)
    return f"{100 * value:.{decimals}f} %" if share else f"{value:.{decimals}f}"


def _goodness(value: float, low: float, high: float, *, rising: bool) -> float:
    """From 0 for the worst of all values to 1 for the best; 1 where all are the same."""
    if high == low:
        return 1.0
    place = (value - low) / (high - low)
    return place if rising else 1 - place
