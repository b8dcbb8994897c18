"""Runs the commands as a user does, in a process of their own, on a run small enough to wait for."""

import os
import subprocess
import sys
from pathlib import Path

import ccdiff

ROOT = Path(ccdiff.__file__).parent.parent

TINY = (
    "model.channels=[8,16]",
    "model.bottleneck=16",
    "model.head_channels=8",
    "model.groups=4",
    "model.embed_dim=16",
    "trainer.steps=6",
    "trainer.batch_size=16",
    "trainer.log_every=2",
    "trainer.heldout_every=3",
    "trainer.heldout_images=32",
    "trainer.sample_every=3",
    "trainer.samples_per_label=2",
    "trainer.checkpoint_every=3",
    "trainer.device=cpu",
    "sampler.steps=3",
)


def call(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``python <script> <arguments>`` in ``cwd``, with W&B offline and two threads at most."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=cwd,
        env={**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def succeed(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Like :func:`call`, and fails the test with the output where the command fails."""
    done = call(script, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
