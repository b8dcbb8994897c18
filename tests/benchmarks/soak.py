"""Does memory, or the number of open files, grow with the number of jobs in one process?

``uv run python -m tests.benchmarks.soak <minutes> <folder>`` trains tiny models of the digits in
sweeps of two hundred jobs, every other one of which fails on purpose. It writes a row per job to
``<folder>/soak.csv``, draws ``soak.png``, and deletes the runs.
"""

import argparse
import csv
import os
import shutil
import sys
import time
from pathlib import Path

from hydra.conf import HydraConf
from omegaconf import DictConfig

from ccdiff.system.stopping import EXIT_STATUS, Preempted
from ccdiff.train import job as experiment
from tests.cli import TINY, call

_JOBS = 100


def resident_mebibytes() -> float:
    """Memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """File handles of this process."""
    return len(os.listdir("/proc/self/fd"))


def soak(minutes: float, folder: Path) -> Path:
    """Trains until the time is up; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "soak.csv"
    started = time.monotonic()
    train = experiment.run_experiment
    job = 0
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["job", "minutes", "resident_mebibytes", "open_files"])

        def measured(cfg: DictConfig, hydra: HydraConf) -> float:
            nonlocal job
            elapsed = (time.monotonic() - started) / 60
            # Before a job, when the command has let go of the one before it.
            writer.writerow([job, f"{elapsed:.3f}", f"{resident_mebibytes():.1f}", open_files()])
            file.flush()
            if elapsed > minutes:
                raise Preempted("the time is up")
            job += 1
            try:
                return train(cfg, hydra)
            finally:
                shutil.rmtree(Path(hydra.runtime.output_dir) / "checkpoints", ignore_errors=True)

        experiment.run_experiment = measured
        while True:
            seeds = f"seed=range({job},{job + _JOBS})"
            sweep = ("-m", seeds, "optimizer.lr=1e-3,1e30", "trainer.warmup=0", *TINY)
            done = call("train.py", *sweep, f"hydra.sweep.dir={folder / 'runs'}", cwd=folder)
            shutil.rmtree(folder / "runs")
            if done.status == EXIT_STATUS:
                return table
            if "diverged" not in done.printed:
                sys.exit(done.printed)


def draw(table: Path) -> Path:
    """Plots the table beside it; returns the picture."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    jobs = [int(row["job"]) for row in rows]
    figure, axes = plt.subplots(2, sharex=True, figsize=(7, 5), layout="constrained")
    for axis, column, label in (
        (axes[0], "resident_mebibytes", "memory in MiB"),
        (axes[1], "open_files", "open files"),
    ):
        axis.plot(jobs, [float(row[column]) for row in rows])
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    axes[1].set_xlabel("jobs done in one process")
    picture = table.with_suffix(".png")
    figure.savefig(picture, dpi=120)
    plt.close(figure)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    print(draw(soak(args.minutes, args.folder.absolute())))


if __name__ == "__main__":
    main()
