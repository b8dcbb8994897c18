"""Figures by matplotlib: colours, line styles, and files for pages and papers."""

import io
import re
from pathlib import Path
from typing import Any

from ccdiff.errors import UserError
from ccdiff.system.atomic import write_whole
from ccdiff.system.text import html_text

__all__ = [
    "COLOURS",
    "FAINT",
    "FORMATS",
    "GRID",
    "INK",
    "MARKERS",
    "STYLES",
    "as_svg",
    "check_format",
    "figure_of",
    "save_figure",
]

# Okabe & Ito, Color Universal Design, 2008, less yellow: told apart by the colour-blind too. What
# follows them, line styles and markers, tells them apart in gray.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES: tuple[Any, ...] = (
    *("-", "--", "-.", ":"),
    *((0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2))),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT, GRID = "#333333", "#8a8a8a", "#e8e8e8"
FORMATS = ("png", "svg", "pdf")
_DPI = 120
_LETTERS: Any = {"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "ccdiff"}
"""Text stays text, which a paper's program can set in its own font; equal data, equal files."""


def check_format(name: str) -> None:
    """Raises a UserError for a format that figures are not written in."""
    if name not in FORMATS:
        raise UserError(f"format must be one of {', '.join(FORMATS)}, got {name}")


def figure_of(width: float, height: float) -> Any:
    """An empty figure, in inches, that makes room for its own labels."""
    # Without pyplot, which would want a display and keeps every figure.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path, *, dpi: int = _DPI) -> None:
    """Writes a figure whole or not at all, in the format of the path's ending.

    Arguments:
        figure: Of matplotlib.
        path: Where to.
        dpi: Pixels per inch of a PNG.
    """
    import matplotlib as mpl

    kind = path.suffix[1:]
    # Without the time, equal data give equal files.
    about = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with mpl.rc_context(_LETTERS):
        write_whole(
            path, lambda file: figure.savefig(file, format=kind, dpi=dpi, metadata=about or None)
        )


def as_svg(figure: Any, alt: str) -> str:
    """A figure within a page: its letters and lines take the page's colours, by day and night.

    Arguments:
        figure: Of matplotlib, drawn in ``INK``, ``FAINT`` and ``COLOURS``.
        alt: What is to be seen, for who does not see it.
    """
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context(_LETTERS):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()[file.getvalue().index("<svg") :]
    svg = re.sub(r'<g id="\w+_\d+">', "<g>", svg)  # The same in each figure of a page.
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for k, colour in enumerate(COLOURS):
        svg = re.sub(colour, f"var(--c{k})", svg, flags=re.IGNORECASE)
    for colour, name in ((INK, "--ink"), (FAINT, "--soft"), (GRID, "--line")):
        svg = re.sub(colour, f"var({name})", svg, flags=re.IGNORECASE)
    width, height = (72 * inches for inches in figure.get_size_inches())
    head = (
        f'<svg viewBox="0 0 {width:g} {height:g}" style="width:100%;max-width:{width:.0f}pt;'
        f'fill:var(--ink)" role="img" aria-label="{html_text(alt)}">'
    )
    return head + svg[svg.index(">") + 1 :]
