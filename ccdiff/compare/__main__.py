"""Runs side by side: ``python -m ccdiff.compare multirun/<day>/<time>``, or several runs."""

import argparse
import sys
from pathlib import Path

from ccdiff.compare.page import page
from ccdiff.compare.table import MAIN, compare, find_runs, read_job
from ccdiff.errors import UserError
from ccdiff.system.atomic import made_folder, write_text

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Writes compare.html and compare.csv.

    Arguments:
        arguments: Of the command line.

    Raises:
        UserError: Where there is nothing to compare.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ccdiff.compare",
        description="One page (compare.html) and one table (compare.csv) on several runs: what "
        "differs, what it did, over seeds; learning curves; samples side by side.",
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of sweeps or of runs")
    parser.add_argument(
        "--out", type=Path, help="folder to write to; by default that of the sweep, or compare/"
    )
    options = parser.parse_args(arguments)
    runs = find_runs(options.runs)
    comparison = compare([read_job(run) for run in runs])
    single = len(options.runs) == 1
    out = options.out or (options.runs[0] if single else Path("compare"))
    title = "/".join(options.runs[0].absolute().parts[-2:]) if single else f"{len(runs)} runs"
    if differ := comparison.data_differ:
        title += f": other images are held out ({', '.join(differ)}), so errors do not compare"
    made_folder(out)
    comparison.write_csv(out / "compare.csv")
    write_text(out / "compare.html", page(comparison, title=title))
    best = None if differ else comparison.best(MAIN)
    if best is not None and (spread := best.spread(MAIN)) is not None:
        print(f"best {MAIN}: {spread.mean:.4f} by {best.label}")
    if differ:
        print(f"careful: {title}")
    failed = [job for job in comparison.jobs if job.problem is not None]
    for job in failed:
        print(f"no result: {job.run.path.name}: {job.problem}")
    print(f"{len(runs)} runs: {out / 'compare.html'} and {out / 'compare.csv'}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
