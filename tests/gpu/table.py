"""Rows as Markdown."""

from collections.abc import Mapping, Sequence
from itertools import groupby

__all__ = ["cell", "markdown"]

_HIDDEN = ("part", "case", "at")


def cell(value: object) -> str:
    """A value as a table shows it: four digits of a number, no bar, no line break."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, float):
        whole = 1e3 <= abs(value) < 1e15
        return f"{value:.0f}" if whole else f"{value:.4g}"
    return " ".join(str(value).replace("|", "\\|").split())


def markdown(head: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> str:
    """What the figures were taken with, then each part; rows of like figures share a table.

    Arguments:
        head: By name.
        rows: With ``part``, ``case`` and figures.
    """
    lines = [f"- {name}: {cell(value)}" for name, value in head.items()]
    for part, of_part in groupby(rows, key=lambda row: row["part"]):
        lines += ["", f"## {part}"]
        for names, alike in groupby(of_part, key=_figures):
            lines += ["", f"| case | {' | '.join(name.replace('_', ' ') for name in names)} |"]
            lines.append("|---" * (1 + len(names)) + "|")
            for row in alike:
                shown = " | ".join(cell(row[name]) for name in names)
                lines.append(f"| {cell(row['case'])} | {shown} |")
    return "\n".join(lines) + "\n"


def _figures(row: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(name for name in row if name not in _HIDDEN)
