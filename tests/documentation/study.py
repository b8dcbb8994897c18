"""Tables and pictures of docs/study.md, made from the folders of ``sweep=study``.

``python -m tests.documentation.study <folder> <picture.svg> [only=<pattern>] [title=<text>]``
prints a row for each setting, the nearest to real images first, and draws them. Differences from
the recipe have an interval that holds for all of them together, by what seeds alone do.
"""

import math
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from scipy.special import stdtrit

from ccdiff.compare.read import find_runs, read_job
from ccdiff.metrics.over_seeds import Difference, Spread, over_seeds

__all__ = ["Row", "markdown", "noise", "picture", "read", "rows_of", "title_of"]

AGREEMENT = "evaluate/label_agreement_classifier"
DISTANCE = "evaluate/fd_classifier_to_heldout"
RECIPE = "the recipe"
_INK, _BETTER, _WORSE, _TIED = "#808080", "#3f88c5", "#d1603d", "#9a9a9a"
_LINE, _TEXT, _PLOT, _TOP = 17, 330, 330, 26
_TICKS = (1, 2, 3, 5, 10, 20, 50, 100, 200)

Figures = dict[str, dict[str, float]]
"""Of one setting, by figure and seed."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A setting against the recipe.

    Arguments:
        setting: What is other than in the recipe.
        agreement: Share of samples that show what was asked for.
        distance: From held-out images, lower is better.
        by: How much larger the logarithm of the distance is than the recipe's; None of the recipe.
    """

    setting: str
    agreement: Spread
    distance: Spread
    by: Difference | None

    @property
    def colour(self) -> str:
        """Better than the recipe, worse, or not told apart from it."""
        if self.by is None or not self.by.sure:
            return _TIED
        return _BETTER if self.by.mean < 0 else _WORSE


def read(folder: Path) -> dict[str, Figures]:
    """The last figures of all finished runs by setting, :data:`RECIPE` among them."""
    found: dict[str, Figures] = {}
    for run in find_runs([folder]):
        job = read_job(run)
        if job.problem is None:
            of = found.setdefault(title_of(run.path.name), {})
            for name in (AGREEMENT, DISTANCE):
                if name in job.results:
                    of.setdefault(name, {})[str(job.config["seed"])] = job.results[name]
    return found


def title_of(name: str) -> str:
    """The setting that the folder of a run is named by, without its seed."""
    parts = [part for part in name.split("+") if not part.startswith("seed-")]
    return ", ".join(part.replace("-", "=", 1) for part in parts) or RECIPE


def noise(found: Mapping[str, Figures]) -> tuple[float, int]:
    """Standard deviation of the logarithm of the distance over seeds, and its degrees of freedom.

    Pooled over all settings with two seeds or more, since two seeds of one tell little.
    """
    squares, freedom = 0.0, 0
    for of in found.values():
        logs = [math.log(value) for value in of.get(DISTANCE, {}).values()]
        if len(logs) > 1:
            squares += statistics.variance(logs) * (len(logs) - 1)
            freedom += len(logs) - 1
    if not freedom:
        raise SystemExit("error: no setting has two seeds, so nothing tells what is luck")
    return math.sqrt(squares / freedom), freedom


def rows_of(found: Mapping[str, Figures], *, only: str = "") -> list[Row]:
    """One row for each setting with all figures, the nearest to real images first."""
    sd, freedom = noise(found)
    among = max(1, len(found) - 1)
    tail = float(stdtrit(freedom, 1 - 0.025 / among))
    recipe = [math.log(value) for value in found[RECIPE][DISTANCE].values()]
    rows = []
    for setting, of in found.items():
        spreads = [over_seeds(of.get(name, {}).values()) for name in (AGREEMENT, DISTANCE)]
        agreement, distance = spreads
        asked = setting == RECIPE or re.search(only, setting)
        if agreement is None or distance is None or not asked:
            continue
        by = None
        if setting != RECIPE:
            logs = [math.log(value) for value in of[DISTANCE].values()]
            mean = statistics.fmean(logs) - statistics.fmean(recipe)
            half = tail * sd * math.sqrt(1 / len(logs) + 1 / len(recipe))
            by = Difference(mean, mean - half, mean + half, None)
        rows.append(Row(setting=setting, agreement=agreement, distance=distance, by=by))
    return sorted(rows, key=lambda row: row.distance.mean)


def _shown(spread: Spread, scale: float = 1.0, digits: int = 1) -> str:
    sd = "" if spread.sd is None else f" ± {scale * spread.sd:.{digits}f}"
    return f"{scale * spread.mean:.{digits}f}{sd}"


def markdown(rows: Sequence[Row]) -> str:
    """The table as it stands on the page."""
    lines = [
        "| setting | label agreement, % | `fd_classifier` | against the recipe's |",
        "|---|---|---|---|",
    ]
    for row in rows:
        by = ""
        if row.by is not None:
            mean, low, high = (math.exp(value) for value in row.by[:3])
            by = f"{mean:.2f} times ({low:.2f} to {high:.2f})"
            by += "" if row.by.sure else ", tied"
        lines.append(
            f"| {row.setting} | {_shown(row.agreement, 100)} | {_shown(row.distance)} | {by} |"
        )
    return "\n".join(lines)


def picture(rows: Sequence[Row], *, title: str) -> str:
    """The distances of all rows as SVG, for a light page and for a dark one."""
    ends = [row.distance.mean + sign * (row.distance.sd or 0) for row in rows for sign in (-1, 1)]
    low, high = 0.9 * min(end for end in ends if end > 0), 1.1 * max(ends)

    def x(value: float) -> float:
        return _TEXT + _PLOT * math.log(max(value, low) / low) / math.log(high / low)

    height = _TOP + _LINE * len(rows) + 38
    width = _TEXT + _PLOT + 70
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="11" fill="{_INK}">',
        f'<text x="8" y="15" font-weight="bold">{escape(title)}</text>',
    ]
    recipe = next((row for row in rows if row.setting == RECIPE), None)
    if recipe is not None:
        at = x(recipe.distance.mean)
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 4}" y2="{height - 31}" '
            f'stroke="{_INK}" stroke-dasharray="3 3"/>'
        )
    for i, row in enumerate(rows):
        y = _TOP + _LINE * i + 8
        mean, sd = row.distance.mean, row.distance.sd or 0.0
        weight = ' font-weight="bold"' if row.setting == RECIPE else ""
        parts += [
            f'<text x="{_TEXT - 8}" y="{y + 4}" text-anchor="end"{weight}>'
            f"{escape(row.setting)}</text>",
            f'<line x1="{x(mean - sd):.1f}" x2="{x(mean + sd):.1f}" y1="{y}" y2="{y}" '
            f'stroke="{row.colour}" stroke-width="2"/>',
            f'<circle cx="{x(mean):.1f}" cy="{y}" r="4" fill="{row.colour}"/>',
            f'<text x="{_TEXT + _PLOT + 8}" y="{y + 4}">{mean:.1f} · '
            f"{100 * row.agreement.mean:.0f} %</text>",
        ]
    for tick in (tick for tick in _TICKS if low < tick < high):
        parts += [
            f'<text x="{x(tick):.1f}" y="{height - 20}" text-anchor="middle">{tick}</text>',
            f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP - 4}" y2="{height - 31}" '
            f'stroke="{_INK}" stroke-opacity="0.2"/>',
        ]
    parts += [
        f'<text x="{_TEXT + _PLOT / 2}" y="{height - 5}" text-anchor="middle">'
        "distance to real images, lower is better; at the right that and label agreement</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Reads a folder, prints the table and draws the picture."""
    given = dict(a.split("=", 1) for a in arguments[2:])
    folder, out = Path(arguments[0]), Path(arguments[1])
    found = read(folder)
    rows = rows_of(found, only=given.get("only", ""))
    sd, freedom = noise(found)
    runs = sum(len(of.get(DISTANCE, {})) for of in found.values())
    print(markdown(rows))
    print(
        f"{len(found)} settings, {runs} runs; luck of a seed: {100 * sd:.0f} % ({freedom} degrees)"
    )
    out.write_text(picture(rows, title=given.get("title", folder.name)))


if __name__ == "__main__":
    main(sys.argv[1:])
