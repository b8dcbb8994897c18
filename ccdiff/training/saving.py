"""From the state of training to a checkpoint and back."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, cast

import torch
from torch import Tensor

from ccdiff.distributed.group import broadcast
from ccdiff.distributed.ranks import is_main
from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import (
    FORMAT,
    Checkpoint,
    open_checkpoint,
    save_checkpoint,
)
from ccdiff.runs.folder import Run
from ccdiff.runs.log import RunLog
from ccdiff.training.ddp import load_optimizer
from ccdiff.training.nonfinite import Diverged
from ccdiff.training.state import TrainState

__all__ = ["RollBack", "SaveCheckpoint", "restore"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SaveCheckpoint:
    """Writes a checkpoint, then removes the oldest; the newest always stays.

    Arguments:
        every: Steps between checkpoints.
        keep: How many to keep.
        keep_bytes: How many bytes they may take together.
        run: Where to.
        config: The whole resolved config, as YAML.
        data: Fingerprint of the training data.
        run_log: Knows the tracker's identity of the run.
    """

    every: int
    keep: int
    keep_bytes: float = float("inf")
    run: Run
    config: str
    data: str
    run_log: RunLog
    name: ClassVar[str] = "checkpoint"

    def __call__(self, state: TrainState) -> None:
        self.write(state, self.run.checkpoint(state.step))
        # Not before the new one has been read back: it may be all that is left.
        self._remove_old()

    def write(self, state: TrainState, path: Path) -> None:
        """Writes a checkpoint of ``state`` to a path of any name."""
        self.run_log.sync()
        save_checkpoint(
            Checkpoint(
                format=FORMAT,
                step=state.step,
                seconds=state.seconds,
                cpu_seconds=state.cpu_seconds,
                config=self.config,
                data=self.data,
                denoiser=state.denoiser.state_dict(),
                ema=state.ema.state_dict(),
                optimizer=state.optimizer.state_dict(),
                rng={
                    "cpu": torch.get_rng_state(),
                    "cuda": _cuda_state(state.loss_sum.device),
                },
                draw=state.draw,
                loss_sum=state.loss_sum,
                loss_count=state.loss_count,
                pending=list(state.pending),
                tracker_id=self.run_log.session.tracker_id,
            ),
            path,
        )

    def _remove_old(self) -> None:
        total = 0
        for i, path in enumerate(reversed(self.run.checkpoints())):
            total += path.stat().st_size
            if i and (i >= self.keep or total > self.keep_bytes):
                path.unlink()


def _cuda_state(device: torch.device) -> list[Tensor]:
    """Of the device that trains alone, since asking another takes memory there."""
    return [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []


def restore(state: TrainState, checkpoint: Checkpoint) -> None:
    """Puts ``state`` and the global random streams back to where the checkpoint was written.

    Raises:
        UserError: Where the checkpoint is of another model.
    """
    try:
        state.denoiser.load_state_dict(checkpoint["denoiser"])
        state.ema.load_state_dict(checkpoint["ema"])
        load_optimizer(state.optimizer, checkpoint["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the checkpoint does not fit the model: {error}") from error
    state.step = checkpoint["step"]
    state.seconds = checkpoint["seconds"]
    state.cpu_seconds = checkpoint["cpu_seconds"]
    state.draw = checkpoint["draw"]
    state.loss_sum.copy_(checkpoint["loss_sum"])
    state.loss_count = checkpoint["loss_count"]
    state.pending = list(checkpoint["pending"])
    torch.set_rng_state(checkpoint["rng"]["cpu"])
    if state.loss_sum.is_cuda and checkpoint["rng"]["cuda"]:
        torch.cuda.set_rng_state(checkpoint["rng"]["cuda"][0], state.loss_sum.device)


@dataclass(kw_only=True)
class RollBack:
    """Takes the newest checkpoint where training diverged, and goes on with another draw.

    Arguments:
        run: Has the checkpoints.
        run_log: Its rows after the checkpoint are taken out.
        tries: How often in a row, before a later checkpoint is reached.
    """

    run: Run
    run_log: RunLog
    tries: int = 3
    _step: int = field(default=-1, init=False)
    _count: int = field(default=0, init=False)

    def __call__(self, state: TrainState, error: Diverged) -> None:
        checkpoint = cast(Checkpoint, broadcast(self._newest(error) if is_main() else None))
        draw = state.draw + 1
        restore(state, checkpoint)
        state.draw = draw
        if is_main():
            self.run.set_aside_after(state.step)
            self.run_log.rewind(state.step)
        log.warning("%s", error)
        log.warning("rolled back to step %d; going on with draw %d", state.step, draw)

    def _newest(self, error: Diverged) -> Checkpoint:
        """The checkpoint to go back to."""
        if not self.run.checkpoints():
            raise Diverged(f"{error} There is no checkpoint to roll back to yet") from error
        path, checkpoint = open_checkpoint(str(self.run.path))
        self._count = self._count + 1 if checkpoint["step"] == self._step else 1
        self._step = checkpoint["step"]
        if self._count > self.tries:
            raise Diverged(f"{error} It was rolled back {self.tries} times to {path}") from error
        return checkpoint
