"""The training loop, plain: draw a batch, take the loss, step, average, look."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from ema_pytorch import EMA
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ccdiff.data import Batches, augment, to_float
from ccdiff.denoiser import Denoiser
from ccdiff.errors import UserError
from ccdiff.objective import Objective
from ccdiff.seeding import seed_for
from ccdiff.training.settings import TrainerSettings
from ccdiff.training.trackers import RunLog

__all__ = ["Hook", "TrainState", "learning_rate_factor", "train"]

log = logging.getLogger(__name__)


@dataclass
class TrainState:
    """Everything that training changes."""

    denoiser: Denoiser
    ema: EMA
    optimizer: Optimizer
    step: int = 0
    """Optimizer steps taken."""
    seconds: float = 0.0
    """Time spent training, over all sessions of the run."""
    base_rates: list[float] = field(init=False)
    """Learning rates after warm-up; those of the config, whatever a checkpoint was using."""

    def __post_init__(self) -> None:
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def averaged(self) -> Denoiser:
        """The denoiser with averaged weights."""
        return self.ema.ema_model


class Hook(Protocol):
    """Something to do every so many steps, and after the last."""

    @property
    def every(self) -> int:
        """Steps between calls."""

    def __call__(self, state: TrainState) -> None: ...


def learning_rate_factor(step: int, warmup: int) -> float:
    """What multiplies the learning rate at ``step`` (from 0): linear warm-up, then 1."""
    return min(1.0, (step + 1) / (warmup + 1))


class _Updater:
    """One optimizer step."""

    def __init__(
        self,
        state: TrainState,
        *,
        objective: Objective,
        batches: Batches,
        flip: bool,
        settings: TrainerSettings,
        seed: int,
    ) -> None:
        self.state = state
        self.objective = objective
        self.batches = batches
        self.flip = flip
        self.settings = settings
        self.seed = seed
        self.parameters = [p for p in state.denoiser.parameters() if p.requires_grad]
        self.generator = torch.Generator(self.parameters[0].device)

    def __call__(self) -> Tensor:
        """Takes the step and returns the loss before it, a scalar on the device."""
        state, settings = self.state, self.settings
        # Keyed by the step, so that a resumed run draws what an uninterrupted one would.
        self.generator.manual_seed(seed_for(self.seed, "step", state.step))
        images, y = self.batches.batch(state.step)
        if self.flip:
            images = augment(images, self.generator)
        loss = self._backward(to_float(images), y)
        norm = clip_grad_norm_(self.parameters, settings.grad_clip, foreach=True)
        self._refuse_non_finite(loss, norm)
        factor = learning_rate_factor(state.step, settings.warmup)
        for group, rate in zip(state.optimizer.param_groups, state.base_rates, strict=True):
            group["lr"] = rate * factor
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.ema.update()
        state.step += 1
        return loss

    def _backward(self, x0: Tensor, y: Tensor) -> Tensor:
        """Adds up the gradient of the mean loss, part by part."""
        draw = self.objective.draw(self.state.denoiser, x0, self.generator)
        total = x0.new_zeros(())
        size = len(x0) // self.settings.accumulate
        for start in range(0, len(x0), size):
            part = slice(start, start + size)
            losses = self.objective.at(self.state.denoiser, x0[part], y[part], draw.part(part))
            loss = losses.sum() / len(x0)
            loss.backward()
            total += loss.detach()
        return total

    def _refuse_non_finite(self, loss: Tensor, norm: Tensor) -> None:
        if torch.isfinite(norm):
            return
        raise UserError(
            f"training diverged at step {self.state.step}: loss {loss.item()}, gradient norm "
            f"{norm.item()}. The weights were not touched. Lower optimizer.lr, raise "
            f"trainer.warmup, or try trainer.precision=fp32"
        )


def train(
    state: TrainState,
    *,
    objective: Objective,
    batches: Batches,
    flip: bool,
    settings: TrainerSettings,
    seed: int,
    run_log: RunLog,
    hooks: Sequence[Hook] = (),
) -> None:
    """Trains ``state`` in place up to ``settings.steps``.

    Arguments:
        state: Where to start from; ``state.step`` may be past 0.
        objective: The loss.
        batches: Training images by batch number.
        flip: Whether to mirror images at random.
        settings: How long and how much.
        seed: Of times, noise, drop masks and mirroring.
        run_log: Where metrics go.
        hooks: Called in order after every ``hook.every`` steps, and after the last.

    Raises:
        UserError: Where the loss or its gradient stops being finite, before the update.
    """
    update = _Updater(
        state, objective=objective, batches=batches, flip=flip, settings=settings, seed=seed
    )
    meter = _Meter(settings.batch_size, next(state.denoiser.parameters()).device)
    state.denoiser.train()
    bar = tqdm(initial=state.step, total=settings.steps, unit="step", disable=None)
    with bar, logging_redirect_tqdm():
        while state.step < settings.steps:
            started = time.perf_counter()
            meter.add(update())
            last = state.step == settings.steps
            if state.step % settings.log_every == 0 or last:
                row = meter.read()
                bar.set_postfix(loss=f"{row['train/loss']:.4f}")
                row["train/lr"] = state.optimizer.param_groups[0]["lr"]
                row["train/images_seen"] = state.step * settings.batch_size
                run_log.metrics(row, step=state.step)
                _say(state, settings, row)
            bar.update()
            state.seconds += time.perf_counter() - started
            for hook in hooks:
                if state.step % hook.every == 0 or last:
                    with meter.paused():
                        hook(state)
                    state.denoiser.train()


def _say(state: TrainState, settings: TrainerSettings, row: dict[str, float]) -> None:
    """One line for logs and consoles that show no progress bar."""
    rate = row["train/images_per_second"]
    left = (settings.steps - state.step) * settings.batch_size / rate
    log.info(
        "step %d/%d  loss %.4f  %.0f images/s  %s left",
        state.step,
        settings.steps,
        row["train/loss"],
        rate,
        tqdm.format_interval(left),
    )


class _Meter:
    """Mean loss and throughput since the last reading, without a device sync in between."""

    def __init__(self, batch_size: int, device: torch.device) -> None:
        self.batch_size = batch_size
        self.total = torch.zeros((), device=device)
        self.count = 0
        self.start = time.perf_counter()

    def add(self, loss: Tensor) -> None:
        self.total += loss
        self.count += 1

    def read(self) -> dict[str, float]:
        loss = (self.total / self.count).item()  # waits for the device
        elapsed = time.perf_counter() - self.start
        rate = self.count * self.batch_size / elapsed
        self.total.zero_()
        self.count = 0
        self.start = time.perf_counter()
        return {"train/loss": loss, "train/images_per_second": rate}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what is done inside out of the throughput."""
        began = time.perf_counter()
        yield
        self.start += time.perf_counter() - began
