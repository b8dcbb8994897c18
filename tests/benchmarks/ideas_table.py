"""The table of a comparison over seeds: means with their spread, and differences to the first."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ccdiff.metrics.over_seeds import Difference, difference, over_seeds

__all__ = ["COLUMNS", "markdown"]

COLUMNS = {
    "heldout_error": "held-out error",
    "heldout_error_noisy": "the same, log-SNR < 3",
    "agreement": "agreement",
    "fd": "fd_classifier",
    "guided_agreement": "agreement, guided",
    "guided_fd": "fd_classifier, guided",
    "images_per_second": "images/s",
}
_COMPARED = tuple(COLUMNS)[:-1]
_SHARES = ("agreement", "guided_agreement")

Row = Mapping[str, Any]


def markdown(head: Mapping[str, str], rows: Sequence[Row]) -> str:
    """What the figures were taken with, then for each data set two tables.

    The first has mean ± standard deviation over seeds. The second has differences to the first
    idea, seed by seed, as mean ± standard deviation of the differences; in bold where 0 is outside
    of their 95 % interval, by itself and not for all comparisons together.

    Arguments:
        head: By name.
        rows: With ``data``, ``idea``, ``seed``, and figures or an ``error``.
    """
    lines = [f"- {name}: {value}" for name, value in head.items()]
    order = list(dict.fromkeys(row["data"] for row in rows))
    by_set = sorted(rows, key=lambda row: order.index(row["data"]))
    for name, group in groupby(by_set, key=lambda row: row["data"]):
        lines += ["", f"## {name}", ""]
        lines += _of_set(list(group))
    failed = [row for row in rows if row.get("error")]
    if failed:
        lines += ["", "## Not there", ""]
        for row in failed:
            told = " ".join(str(row["error"]).split())[-300:]
            lines.append(f"- {row['data']}, {row['idea']}, seed {row['seed']}: {told}")
    return "\n".join(lines) + "\n"


def _of_set(rows: Sequence[Row]) -> list[str]:
    ideas = list(dict.fromkeys(row["idea"] for row in rows))
    by_seed = {
        idea: {str(row["seed"]): row for row in rows if row["idea"] == idea} for idea in ideas
    }
    heads = [COLUMNS[key] for key in COLUMNS]
    lines = [f"| | seeds | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for idea in ideas:
        cells = [_spread(key, by_seed[idea]) for key in COLUMNS]
        good = sum(not row.get("error") for row in by_seed[idea].values())
        lines.append(f"| {idea} | {good} | {' | '.join(cells)} |")
    trained = [idea for idea in ideas if any("steps" in r for r in by_seed[idea].values())]
    if len(trained) < 2:
        return lines
    base, *others = trained
    heads = [COLUMNS[key] for key in _COMPARED]
    lines += ["", f"| less {base} | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for idea in others:
        cells = [_difference(key, by_seed[idea], by_seed[base]) for key in _COMPARED]
        lines.append(f"| {idea} | {' | '.join(cells)} |")
    return lines


def _values(key: str, rows: Mapping[str, Row]) -> dict[str, float]:
    return {seed: row[key] for seed, row in rows.items() if row.get(key) is not None}


def _spread(key: str, rows: Mapping[str, Row]) -> str:
    found = over_seeds(_values(key, rows).values())
    if found is None:
        return ""
    sd = "" if found.sd is None else f" ± {_number(key, found.sd)}"
    return f"{_number(key, found.mean)}{sd}{' %' if key in _SHARES else ''}"


def _difference(key: str, ours: Mapping[str, Row], base: Mapping[str, Row]) -> str:
    first, second = _values(key, ours), _values(key, base)
    found: Difference | None = difference(first, second)
    if found is None:
        return ""
    each = over_seeds(first[seed] - second[seed] for seed in first.keys() & second.keys())
    sd = "" if each is None or each.sd is None else f" ± {_number(key, each.sd)}"
    shown = f"{'+' if found.mean >= 0 else '-'}{_number(key, abs(found.mean))}{sd}"
    return f"**{shown}**" if found.sure else shown


def _number(key: str, value: float) -> str:
    if key in _SHARES:
        return f"{100 * value:.1f}"
    if key.startswith("heldout_error") and value < 10:
        return f"{value:.4f}"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
