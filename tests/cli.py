"""Runs the commands as a user does, on a run small enough to wait for.

In this process, because importing torch and its friends takes longer than all of such a run.
"""

import contextlib
import io
import json
import logging
import os
import runpy
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from hydra.core.global_hydra import GlobalHydra

import ccdiff

ROOT = Path(ccdiff.__file__).parent.parent

TINY = (
    "model.channels=[8,16]",
    "model.bottleneck=16",
    "model.head_channels=8",
    "model.groups=4",
    "model.embed_dim=16",
    "trainer.steps=6",
    "trainer.cooldown=0",  # As good as nothing would be learned while the rate falls.
    "trainer.batch_size=16",
    "trainer.log_every=2",
    "trainer.heldout_every=3",
    "trainer.heldout_images=32",
    "trainer.sample_every=3",
    "trainer.samples_per_label=2",
    "trainer.checkpoint_every=3",
    "trainer.device=cpu",
    "sampler.steps=3",
    "evaluate.every=0",
)


def rarely(steps: int) -> tuple[str, ...]:
    """For so many steps of :data:`TINY`, which look at nothing but the last one."""
    counts = ("steps", *(f"{what}_every" for what in ("log", "heldout", "sample", "checkpoint")))
    return tuple(f"trainer.{name}={steps}" for name in counts)


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    status: int
    printed: str


def call(script: str, *arguments: str, cwd: Path) -> Done:
    """``python <script> <arguments>``, or ``python -m``, in ``cwd``."""
    printed = io.StringIO()
    status = 0
    before = os.getcwd()
    GlobalHydra.instance().clear()
    try:
        os.chdir(cwd)
        with (
            patch.object(sys, "argv", [script, *arguments]),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("default")
            if script.endswith(".py"):
                runpy.run_path(str(ROOT / script), run_name="__main__")
            else:
                # A module that a test has imported would be warned of as run twice.
                folder = hasattr(sys.modules.get(script), "__path__")
                sys.modules.pop(f"{script}.__main__" if folder else script, None)
                runpy.run_module(script, run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            printed.write(stop.code)
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        os.chdir(before)
        for handler in list(logging.getLogger().handlers):
            if isinstance(handler, logging.FileHandler):
                handler.close()
            logging.getLogger().removeHandler(handler)
    return Done(status, printed.getvalue())


def succeed(script: str, *arguments: str, cwd: Path) -> Done:
    """Like :func:`call`, and fails the test with the output where the command fails."""
    done = call(script, *arguments, cwd=cwd)
    assert done.status == 0, done.printed
    return done


def wandb_sessions(run: Path) -> list[list[dict]]:
    """The offline records of each session of a run, read back by W&B's own tool."""
    from wandb.util import get_core_path

    # What ``wandb leet inspect --json`` starts once it has loaded.
    tool = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file"]
    sessions = []
    for file in sorted((run / "wandb").glob("offline-run-*/run-*.wandb")):
        done = subprocess.run([*tool, file, run], capture_output=True, text=True, check=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        sessions.append([json.loads(line) for line in lines])
    return sessions


def wandb_ids(run: Path) -> list[str]:
    """The identity that each offline session of a run has, by the names of their folders.

    Sessions of one identity that begin within the same second have a number behind it.
    """
    folders = sorted((run / "wandb").glob("offline-run-*"))
    return [folder.name.split("-")[3] for folder in folders]
