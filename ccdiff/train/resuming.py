"""Going on with a run: what is left to train, what must be as it was, and what may change."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ccdiff.config.build import completed, plain
from ccdiff.config.differences import WITHOUT_EFFECT, any_of, difference, has_hash
from ccdiff.config.schema import TrainConfig, typed
from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import Checkpoint
from ccdiff.runs.record import Record
from ccdiff.trained.run import trained_config

__all__ = ["MAY_CHANGE", "Finished", "Found", "Start", "check_config", "check_data", "decide"]

log = logging.getLogger(__name__)

MAY_CHANGE = (
    *WITHOUT_EFFECT,
    # How fast.
    "optimizer.lr",
    "trainer.on_nonfinite",
    # What is measured and drawn on the way.
    "trainer.heldout_every",
    "trainer.heldout_images",
    "trainer.sample_every",
    "trainer.samples_per_label",
    "sampler",
    "guidance",
    "threshold",
    "evaluate",
    "extractor",
    # How it is computed. Figures differ by rounding.
    "trainer.precision",
    "trainer.compile",
    "trainer.deterministic",
    "trainer.accumulate",
    "trainer.shard",
)
"""Keys, or groups of them, that may have another value where a user goes on with a run."""

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a launch finds in the folder of its run.

    Arguments:
        path: The folder.
        sweep: Whether the launch is a job of a sweep.
        config: The config that the run was started with, as plain dicts; empty where none is left.
        holds_checkpoints: Whether there are any.
        open_checkpoint: Reads the one to go on from: that which ``resume`` names, or the newest.
    """

    path: Path
    sweep: bool
    config: Mapping[str, Any]
    holds_checkpoints: bool
    open_checkpoint: Callable[[], Checkpoint]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Nothing is left to train.

    Arguments:
        reason: Why, in a line for the user.
        result: Last ``heldout/eps_mse``; None where the run was killed before it had noted it.
    """

    reason: str
    result: float | None


@dataclass(kw_only=True)
class Start:
    """Training is to start.

    Arguments:
        checkpoint: To go on from; None for the first step.
        same_run: Whether the record that is there is of this run, and not of one that left
            nothing else.
    """

    checkpoint: Checkpoint | None
    same_run: bool

    def take(self) -> Checkpoint | None:
        """Hands the checkpoint over, and keeps it no longer."""
        checkpoint, self.checkpoint = self.checkpoint, None
        return checkpoint


def decide(run: Found, record: Record | None, cfg: DictConfig) -> Finished | Start:
    """What a launch has to do, from what is there and what was asked for.

    A job of a sweep, and ``resume=auto``, go on with what an earlier launch has left; another
    ``resume`` names a checkpoint to go on from, and without it a run is never touched again.

    Arguments:
        run: What is there.
        record: Of the run, None where there is none.
        cfg: The whole config.

    Raises:
        UserError: Where what is there is not what was asked for, with what differs.
    """
    steps = cfg.trainer.steps
    stop_at = cfg.trainer.get("stop_at")
    by_itself = run.sweep or cfg.resume == "auto"
    named = cfg.resume not in (None, "auto")
    if run.holds_checkpoints and not (by_itself or named):
        raise UserError(
            f"{run.path} already holds a run: go on with it by resume={run.path}, or pass another "
            f"hydra.run.dir"
        )
    if by_itself and record is not None:
        if run.sweep or record.finished(steps=steps, stop_at=stop_at):
            _refuse_another(run, record, cfg)
        if record.finished(steps=0):
            _refuse_longer(run, record.step, steps)
        if record.finished(steps=steps, stop_at=stop_at):
            return Finished(reason=f"finished earlier: {record.line}", result=record.result)
    open_it = named or (by_itself and run.holds_checkpoints)
    checkpoint = run.open_checkpoint() if open_it else None
    if checkpoint is None:
        return Start(checkpoint=None, same_run=run.sweep)
    _refuse_longer(run, checkpoint["step"], steps)
    if (
        named
        and record is not None
        and record.finished(steps=steps, stop_at=stop_at)
        and checkpoint["step"] == record.step < steps
    ):
        raise UserError(
            f"{run.path} has reached {stop_at} after {record.step} steps; to go on, pass "
            f"trainer.stop_at=null or another one"
        )
    if checkpoint["step"] == steps and not checkpoint["pending"]:
        all_taken = f"{run.path} has taken all its {steps} steps"
        if named:
            raise UserError(f"{all_taken}; to go on, pass trainer.steps")
        # Killed between its last checkpoint and the end.
        return Finished(reason=all_taken, result=None)
    return Start(checkpoint=checkpoint, same_run=True)


def _refuse_another(run: Found, record: Record, cfg: DictConfig) -> None:
    """Raises UserError where the run is of a config whose result is another."""
    now = plain(cfg)
    if has_hash(now, record.config_hash):
        return
    # A version whose classes took fewer settings took another digest of the same config. What a
    # data set finds out for itself is in the saved config alone.
    differing = {
        key: (old, new)
        for key, (old, new) in difference(completed(run.config), completed(now)).items()
        if not (key.startswith("data.") and new in (None, []))
        and not (any_of(key, MAY_CHANGE) and not run.sweep)
    }
    if run.config and not differing:
        return
    shown = ", ".join(
        f"{k}={new} (there {old})" for k, (old, new) in list(differing.items())[:_SHOWN]
    )
    raise UserError(
        f"{run.path} holds a run of another config: {shown or 'not saved'}; pass another "
        f"{_folder_key(run)}, or remove that folder"
    )


def _refuse_longer(run: Found, taken: int, steps: int) -> None:
    """Raises UserError where more steps are taken than were asked for: their result is another."""
    if taken > steps:
        raise UserError(
            f"{run.path} has taken {taken} steps already, and trainer.steps={steps} asks for "
            f"fewer: pass trainer.steps={taken} or more, or another {_folder_key(run)}"
        )


def _folder_key(run: Found) -> str:
    return "hydra.sweep.dir" if run.sweep else "hydra.run.dir"


def check_config(checkpoint: Checkpoint, cfg: DictConfig) -> None:
    """Compares the config of a run with the one that is to go on with it.

    Arguments:
        checkpoint: Of the run.
        cfg: With the facts of its data settled.

    Raises:
        UserError: Where another key than ``MAY_CHANGE`` differs, with all that do.
    """
    # Keys of the trainer that came after the run count as their defaults.
    saved = plain(typed(trained_config(checkpoint), TrainConfig))
    saved, now = completed(saved), completed(plain(cfg))
    changes = {
        key: f"{key}: {old} -> {new}"
        for key, (old, new) in difference(saved, now, ignore=("resume",)).items()
    }
    if refused := [line for key, line in changes.items() if not any_of(key, MAY_CHANGE)]:
        lines = "\n  ".join(refused)
        raise UserError(
            f"the run to resume was trained with another config:\n  {lines}\n"
            f"Leave these as they were, or start a new run. What may change: "
            f"{', '.join(MAY_CHANGE)}"
        )
    for line in changes.values():
        log.info("changed since the run was started: %s", line)
    _warn_of_cooldown(checkpoint["step"], saved["trainer"]["steps"], now["trainer"])


def _warn_of_cooldown(taken: int, before: int, trainer: Mapping[str, Any]) -> None:
    """Says so where steps were taken at a learning rate that belongs to another length."""
    steps, cooldown = trainer["steps"], trainer["cooldown"]
    level = max(0, min(steps, before) - cooldown)
    if cooldown and steps != before and taken > level:
        log.warning(
            "%d steps are taken, and after step %d the learning rate was that of a run of %d "
            "steps: this will not be the run of %d steps with trainer.cooldown=%d. For that, go "
            "on from a checkpoint of step %d or earlier, or train anew",
            taken,
            level,
            before,
            steps,
            cooldown,
            level,
        )


def check_data(checkpoint: Checkpoint, fingerprint: str) -> None:
    """Compares the training data of a run with what is there now.

    Raises:
        UserError: Where they differ.
    """
    if checkpoint["data"] not in (None, fingerprint):
        raise UserError(
            "the training data are not those that the run was trained on: images, labels or "
            "their order have changed. Bring the old ones back (data.root may point elsewhere), "
            "or start a new run"
        )
