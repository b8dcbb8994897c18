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
from ccdiff.distributed import agreed, sum_tensor_
from ccdiff.objective import Objective
from ccdiff.ranks import is_main, slice_of, world_size
from ccdiff.seeding import seed_for
from ccdiff.training.divergence import Diverged, LabelledDraw, diagnose
from ccdiff.training.learning_rate import learning_rate_factor
from ccdiff.training.parallel import averaging, memory, replicate, seed_apart, worst_of
from ccdiff.training.settings import TrainerSettings
from ccdiff.training.speed import Speed
from ccdiff.training.stopping import Preempted, Stop
from ccdiff.training.timing import StepTimer
from ccdiff.training.trackers import RunLog

__all__ = ["Hook", "Rollback", "TrainState", "train"]

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
    draw: int = 0
    """How often training was rolled back: each time it goes on with another draw of the noise."""
    loss_sum: Tensor = field(init=False)
    """Sum of the losses since their mean was last logged, on the device."""
    loss_count: int = 0
    base_rates: list[float] = field(init=False)
    """Learning rates after warm-up; those of the config, whatever a checkpoint was using."""

    def __post_init__(self) -> None:
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.loss_sum = torch.zeros((), device=next(self.denoiser.parameters()).device)

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


class Rollback(Protocol):
    """Puts the state back to where it was last good, or raises the error."""

    def __call__(self, state: TrainState, error: Diverged) -> None: ...


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
        timer: StepTimer,
    ) -> None:
        self.state = state
        self.objective = objective
        self.batches = batches
        self.flip = flip
        self.settings = settings
        self.seed = seed
        self.timer = timer
        self.parameters = [p for p in state.denoiser.parameters() if p.requires_grad]
        self.generator = torch.Generator(self.parameters[0].device)
        self.losses = replicate(state.denoiser, objective)
        self.rows = slice_of(settings.batch_size)

    def __call__(self) -> Tensor:
        """Takes the step and returns the loss before it, a scalar on the device."""
        state, settings = self.state, self.settings
        seed_apart(self.seed, state.step)
        batch = self._batch()
        self.timer.lap("data")
        loss = self._backward(batch)
        norm = clip_grad_norm_(self.parameters, settings.grad_clip, foreach=True)
        # The one wait for the device in a step: an update cannot be taken back.
        if not torch.isfinite(norm):
            with state.denoiser.eager():
                error = diagnose(state.denoiser, self.objective, batch, step=state.step, loss=loss)
            state.optimizer.zero_grad(set_to_none=True)
            raise worst_of(error)
        factor = learning_rate_factor(
            state.step, steps=settings.steps, warmup=settings.warmup, cooldown=settings.cooldown
        )
        for group, rate in zip(state.optimizer.param_groups, state.base_rates, strict=True):
            group["lr"] = rate * factor
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        self.timer.lap("optimizer")
        state.ema.update()
        self.timer.lap("ema")
        state.step += 1
        return loss

    def _batch(self) -> LabelledDraw:
        """Images, labels and randomness of the step, or of this process's rows of it."""
        state, batch_size = self.state, self.settings.batch_size
        # Keyed by the step, so that a resumed run draws what an uninterrupted one would.
        again = ("draw", state.draw) if state.draw else ()
        self.generator.manual_seed(seed_for(self.seed, "step", state.step, *again))
        images, y = self.batches.batch(state.step)
        if self.flip:
            images = augment(images, self.generator, batch_size=batch_size, rows=self.rows)
        x0 = to_float(images)
        # Drawn for the whole batch, so that it is the same however many processes share it.
        whole = x0.new_empty(()).expand(batch_size, *x0.shape[1:])
        draw = self.objective.draw(state.denoiser, whole, self.generator).part(self.rows)
        if len(x0) < batch_size:
            draw = draw._replace(eps=draw.eps.clone())  # Frees the rest of the noise.
        return LabelledDraw(x0, y, draw)

    def _backward(self, batch: LabelledDraw) -> Tensor:
        """Adds up the gradient of the mean loss, part by part."""
        total = batch.x0.new_zeros(())
        count = self.settings.accumulate
        for i, part in enumerate(batch.split(count), start=1):
            with averaging(self.losses, i == count):
                # Processes have equal shares: the mean of their means is that of the batch.
                loss = self.losses(part).sum() / len(batch.x0)
                self.timer.lap("forward")
                loss.backward()
                self.timer.lap("backward")
            total += loss.detach()
        return sum_tensor_(total) / world_size()


def train(
    state: TrainState,
    *,
    objective: Objective,
    batches: Batches,
    flip: bool,
    settings: TrainerSettings,
    seed: int,
    speed: Speed,
    timer: StepTimer,
    run_log: RunLog,
    save: Hook,
    hooks: Sequence[Hook] = (),
    stop: Stop | None = None,
    rollback: Rollback | None = None,
) -> None:
    """Trains ``state`` in place up to ``settings.steps``.

    Arguments:
        state: Where to start from; ``state.step`` may be past 0.
        objective: The loss.
        batches: Training images by batch number.
        flip: Whether to mirror images at random.
        settings: How long and how much.
        seed: Of times, noise, drop masks and mirroring.
        speed: Tells operations per second from images per second.
        timer: Told where the time goes.
        run_log: Where metrics go.
        save: Called after all that a step has to log, so that a run which goes on from there
            neither lacks nor repeats any of it.
        hooks: Called in order after every ``hook.every`` steps, and after the last.
        stop: Says when to save and leave before the last step.
        rollback: Called where the loss or its gradient stops being finite.

    Raises:
        Diverged: Where the loss or its gradient stops being finite, before the update.
        Preempted: Where ``stop`` has said so; everything is saved.
    """
    update = _Updater(
        state,
        objective=objective,
        batches=batches,
        flip=flip,
        settings=settings,
        seed=seed,
        timer=timer,
    )
    meter = _Meter(state, settings.batch_size, timer)
    state.denoiser.train()
    timer.start()
    quiet = None if is_main() else True  # None: where it is no terminal.
    bar = tqdm(initial=state.step, total=settings.steps, unit="step", disable=quiet)
    with bar, logging_redirect_tqdm():
        while state.step < settings.steps:
            started = time.perf_counter()
            try:
                meter.add(update())
            except Diverged as error:
                if rollback is None:
                    raise
                rollback(state, error)
                timer.lap("hooks")
                bar.update(state.step - bar.n)
                continue
            last = state.step == settings.steps
            if state.step % settings.log_every == 0 or last:
                row = meter.read()
                row |= speed.figures(row["train/images_per_second"])
                bar.set_postfix(loss=f"{row['train/loss']:.4f}")
                row["train/lr"] = state.optimizer.param_groups[0]["lr"]
                row["train/images_seen"] = state.step * settings.batch_size
                row["train/seconds"] = state.seconds + time.perf_counter() - started
                row |= memory(state.loss_sum.device)
                run_log.metrics(row, step=state.step)
                _say(state, settings, row)
            if last:
                log.info("the last step is taken; measuring, drawing and saving")
            if state.step % settings.log_every == 0:
                meter.reset()
            bar.update()
            state.seconds += time.perf_counter() - started
            for hook in (*hooks, save):
                if state.step % hook.every == 0 or last:
                    with meter.paused():
                        hook(state)
                    state.denoiser.train()
            timer.lap("hooks")
            reason = None if stop is None or last else agreed(stop.reason)
            if reason is not None:
                if state.step % save.every:
                    save(state)
                raise Preempted(f"{reason}: saved at step {state.step} of {settings.steps}")


def _say(state: TrainState, settings: TrainerSettings, row: dict[str, float]) -> None:
    """One line for logs and consoles that show no progress bar."""
    rate = row["train/images_per_second"]
    left = (settings.steps - state.step) * settings.batch_size / rate
    log.info(
        "step %d/%d  loss %.4f  %.0f images/s  %.1f %% of peak  %s left",
        state.step,
        settings.steps,
        row["train/loss"],
        rate,
        100 * row["train/mfu"],
        tqdm.format_interval(left),
    )


class _Meter:
    """Mean loss, throughput and split of time since the last reading, with no wait in between.

    The sum of the losses is part of the state, so that a resumed run logs the same means.
    """

    def __init__(self, state: TrainState, batch_size: int, timer: StepTimer) -> None:
        self.state = state
        self.batch_size = batch_size
        self.timer = timer
        self.steps = 0
        self.start = time.perf_counter()

    def add(self, loss: Tensor) -> None:
        self.state.loss_sum += loss
        self.state.loss_count += 1
        self.steps += 1

    def read(self) -> dict[str, float]:
        loss = (self.state.loss_sum / self.state.loss_count).item()  # waits for the device
        rate = self.steps * self.batch_size / (time.perf_counter() - self.start)
        split = {f"time/{part}": s / self.steps for part, s in self.timer.read().items()}
        self.steps = 0
        self.start = time.perf_counter()
        return {"train/loss": loss, "train/images_per_second": rate, **split}

    def reset(self) -> None:
        """Begins a new mean."""
        self.state.loss_sum.zero_()
        self.state.loss_count = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what is done inside out of the throughput."""
        began = time.perf_counter()
        yield
        self.start += time.perf_counter() - began
