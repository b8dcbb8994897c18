"""Training from Python, a notebook say, as the command line does."""

import os
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException

from ccdiff.config.options import compose
from ccdiff.config.schema import TrainConfig
from ccdiff.errors import UserError
from ccdiff.launch.checking import checked_config
from ccdiff.launch.explain import explained
from ccdiff.runs.folder import Run
from ccdiff.system.stopping import Preempted
from ccdiff.train.job import run_experiment

__all__ = ["train"]


def train(overrides: Sequence[str] = (), *, out: str | Path | None = None) -> Run:
    """Trains one run in this process, as ``python train.py <overrides>`` does in one of its own.

    ``logging.basicConfig(level="INFO")`` shows what it does.

    Arguments:
        overrides: As on the command line, such as ``["data=mnist", "trainer.steps=4000"]``.
        out: The folder of the run; None is a new one in ``outputs/``. With ``"resume=auto"`` among
            the overrides, what the folder holds is gone on with.

    Returns:
        The run, which :func:`ccdiff.load` opens.

    Raises:
        UserError: For what the command line refuses, and for what it does with several runs.
        KeyboardInterrupt: Where it was interrupted; everything is saved.
    """
    if isinstance(overrides, str):
        raise UserError(f"pass a list of overrides, such as [{overrides!r}]")
    asked = list(overrides)
    for override in asked:
        if not isinstance(override, str):
            raise UserError(f"an override is text, as 'trainer.steps=100', got {override!r}")
        key, _, value = override.partition("=")
        if key == "resume" and value not in ("auto", "null"):
            raise UserError(f"{override}: pass out=<the run> and resume=auto to go on with a run")
        if key.lstrip("+") in ("sweep", "hydra.mode") and value != "null":
            raise UserError(f"{override}: this trains one run; a sweep is started from a shell")
        if override.startswith("-") or key == "hydra.run.dir":
            raise UserError(f"{override}: an override is key=value, and out= names the folder")
    try:
        composed = compose("train", asked, with_hydra=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explained(error, asked, "train")) from error
    hydra = composed.hydra
    with open_dict(composed):
        hydra.mode = RunMode.RUN
        folder = Path(out).expanduser() if out is not None else Path(hydra.run.dir)
        hydra.runtime.output_dir = str(folder.absolute())
        cfg = composed.copy()
        del cfg["hydra"]
    cfg = checked_config(cfg, TrainConfig, overrides=asked)
    run = Run(folder.absolute())
    try:
        run_experiment(cfg, hydra)
    except Preempted as stopped:
        again = f'ccdiff.train([..., "resume=auto"], out={os.fspath(run.path)!r})'
        raise KeyboardInterrupt(f"{stopped}; to go on: {again}") from None
    return run
