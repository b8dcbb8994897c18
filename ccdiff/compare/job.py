"""Reads runs, and writes one page and one table on them."""

import argparse
import logging
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from ccdiff.compare.cost import KINDS, Reach, parse_thresholds, reaches
from ccdiff.compare.page import page
from ccdiff.compare.read import Job, find_runs, read_job
from ccdiff.compare.standing import standing
from ccdiff.compare.table import MAIN, Comparison, compare, direction
from ccdiff.errors import UserError
from ccdiff.runs.folder import Run
from ccdiff.system.atomic import made_folder, write_text
from ccdiff.system.console import guard_console
from ccdiff.system.text import printable
from ccdiff.system.typed import as_typed

__all__ = ["compare_runs"]

_KEYS = ("by", "reach", "out")


def compare_runs(arguments: list[str]) -> None:
    """Writes compare.html and compare.csv.

    Arguments:
        arguments: Of the command line.

    Raises:
        UserError: Where there is nothing to compare.
    """
    parser = argparse.ArgumentParser(prog=as_typed("compare"), add_help=False)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    by, asked, paths = _settings(arguments)
    options = parser.parse_args(paths)
    # Lines that are no rows are told as any other log line.
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    guard_console()
    runs = find_runs(options.runs)
    jobs = list(filter(None, map(_read, runs)))
    if not jobs:
        raise UserError("there is nothing to compare: none of the runs can be read")
    comparison = compare(jobs)
    _check_logged(comparison, list(asked))
    single = len(options.runs) == 1
    out = options.out or (options.runs[0] if single else Path("compare"))
    title = _title(comparison, options.runs[0].absolute() if single else None)
    if differ := comparison.data_differ:
        title += f": other images are held out ({', '.join(differ)}), so errors do not compare"
    made_folder(out)
    comparison.write_csv(out / "compare.csv")
    write_text(out / "compare.html", page(comparison, title=title, by=by, asked=asked))
    for metric in [] if differ else dict.fromkeys((MAIN, *asked)):
        if (lead := standing(comparison, metric)) is not None:
            _say(lead.text)
    if differ:
        _say(f"careful: {title}")
    for metric, thresholds in ({} if differ else asked).items():
        if metric in comparison.metrics:
            _say_costs(comparison, metric, thresholds, by)
    for job in comparison.jobs:
        if job.problem is not None:
            _say(f"no result: {job.run.path.name}: {job.problem}")
    _say(f"{_runs(len(jobs))}: {out / 'compare.html'} and {out / 'compare.csv'}")


def _settings(arguments: list[str]) -> tuple[str, dict[str, list[float]], list[str]]:
    """What costs are counted in, what is to be reached, and the other arguments."""
    by, rest = "images", []
    asked: dict[str, list[float]] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key == "by":
            by = value
        elif equals and key == "reach":
            metric, thresholds = parse_thresholds(value)
            asked[metric] = list(dict.fromkeys([*asked.get(metric, []), *thresholds]))
        elif equals and key == "out":
            rest += ["--out", value]
        elif equals and key.isidentifier() and not Path(argument).exists():
            near = get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]}=?" if near else "folders are given without a key"
            raise UserError(f"{argument}: there is no key '{key}': {hint}")
        else:
            rest.append(argument)
    if by not in KINDS:
        raise UserError(f"by={by} is no cost: it is one of {', '.join(KINDS)}")
    return by, asked, rest


def _check_logged(comparison: Comparison, asked: Sequence[str]) -> None:
    """Says where no run has a figure that is to be reached, such as runs that never looked.

    Raises:
        UserError: Where they have one that is called nearly the same.
    """
    for metric in asked:
        if metric in comparison.metrics:
            continue
        ranked = [name for name in comparison.metrics if direction(name) is not None]
        told = f"reach={metric}: no run has logged it"
        if near := get_close_matches(metric, ranked, n=1, cutoff=0.85):
            raise UserError(f"{told}: did you mean {near[0]}?")
        _say(f"{told}; there are: {', '.join(ranked) or 'none'}")


def _say_costs(comparison: Comparison, metric: str, thresholds: Sequence[float], by: str) -> None:
    """One line for each setting and threshold."""
    sign = ">=" if direction(metric) == "higher" else "<="
    for setting, row in zip(
        comparison.settings, reaches(comparison, metric, thresholds, by), strict=True
    ):
        for threshold, reach in zip(thresholds, row, strict=True):
            _say(f"{metric} {sign} {threshold:g}: {setting.label}: {_shown_cost(reach, by)}")


def _shown_cost(reach: Reach, by: str) -> str:
    """Mean and deviation over seeds, or how many got there."""
    spread = reach.spread
    if spread is None:
        unknown = f", and of {reach.unknown} it is not known" if reach.unknown else ""
        return f"reached by {reach.reached} of {reach.runs} runs{unknown}"
    sd = "" if spread.sd is None else f" ± {_amount(spread.sd)}"
    return f"{_amount(spread.mean)}{sd} {KINDS[by]}"


def _amount(value: float) -> str:
    """A number to three digits: 0.031, 12,800, 1.23e+15."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 1000 <= rounded < 1e9 else f"{rounded:g}"


def _read(run: Run) -> Job | None:
    """A run; None, and said, where it cannot be read."""
    try:
        return read_job(run)
    except UserError as error:
        _say(f"left out: {run.path.name}: {error}")
        return None


def _title(comparison: Comparison, folder: Path | None) -> str:
    """What is compared: the axes, the data, and the place where there is one."""
    data = {job.choices.get("data", "") for job in comparison.jobs} - {""}
    what = " x ".join(comparison.axes[:3]) + (" x ..." if len(comparison.axes) > 3 else "")
    parts = [
        what or _runs(len(comparison.jobs)),
        *([f"on {data.pop()}"] if len(data) == 1 else []),
    ]
    if folder is not None:
        parts.append(f"({'/'.join(folder.parts[-2:])})")
    return " ".join(parts)


def _runs(n: int) -> str:
    return f"{n} run{'' if n == 1 else 's'}"


def _say(text: str) -> None:
    """Prints a line, in which text from runs cannot act on the terminal."""
    print(printable(text))
