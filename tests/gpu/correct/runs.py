"""Whole runs in this process: checkpoints that change devices, rolling back."""

from pathlib import Path

import torch
from hydra.conf import HydraConf, RuntimeConf
from hydra.types import RunMode

from ccdiff.runs.checkpoints import open_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from ccdiff.train.job import run_experiment
from tests.cli import TINY
from tests.gpu.bench import Bench
from tests.gpu.correct.kit import config_of

__all__ = ["run"]


def run(bench: Bench) -> None:
    """Runs the cases."""
    bench.case(checkpoints_change_devices, needs=6)


def trained(folder: Path, device: str, steps: int) -> None:
    """Trains a tiny run up to ``steps``, or goes on with it."""
    kept = [a for a in TINY if not any(part in a for part in ("steps=", "_every=", "device="))]
    cfg = config_of(
        *kept,
        *("data.image_size=8", "sampler.steps=1", "evaluate.every=0", "trainer.log_every=1"),
        *("trainer.precision=fp32", "trainer.compile=none", "tracker=none", "resume=auto"),
        changes=(f"trainer.steps={steps}", f"trainer.device={device}"),
    )
    job = HydraConf(runtime=RuntimeConf(output_dir=str(folder)), mode=RunMode.RUN)
    run_experiment(cfg, job)


def checkpoints_change_devices(bench: Bench) -> None:
    """A run begins on the CPU, goes on on the device and ends on the CPU."""
    folder = bench.scratch / "changes"
    devices = ("cpu", str(bench.device), "cpu")
    for i, device in enumerate(devices, start=1):
        trained(folder, device, 2 * i)
        checkpoint = open_checkpoint(str(folder))[1]
        here = {value.device.type for value in checkpoint["denoiser"].values()}
        bench.expect(
            f"step {2 * i} on {device}, resumed from {'nothing' if i == 1 else devices[i - 2]}",
            checkpoint["step"] == 2 * i and here == {"cpu"},
        )
    losses = [
        row["train/loss"] for row in read_metrics(Run(folder).metrics) if "train/loss" in row
    ]
    finite = all(torch.isfinite(torch.tensor(losses)))
    bench.expect("the losses of all of it are there and finite", finite and len(losses) == 6)
