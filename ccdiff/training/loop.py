"""The training loop, plain: draw a batch, take the loss, step, average, look."""

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn
from tqdm import tqdm

from ccdiff.distributed.group import agreed
from ccdiff.distributed.ranks import is_main
from ccdiff.runs.log import RunLog
from ccdiff.settings import TrainerSettings
from ccdiff.system.console import beside_bars
from ccdiff.system.stopping import Interrupted, Preempted, Stop, heed
from ccdiff.training.ddp import memory
from ccdiff.training.monitor.reaching import StopAt
from ccdiff.training.monitor.speed import Speed
from ccdiff.training.monitor.timing import ProcessorTime, StepTimer
from ccdiff.training.nonfinite import Diverged
from ccdiff.training.state import Hook, TrainState
from ccdiff.training.step import Update

__all__ = ["Rollback", "train"]

log = logging.getLogger(__name__)

_TIMED = 12
"""Steps that are timed before it is said how long all will take."""


class Rollback(Protocol):
    """Puts the state back to where it was last good, or raises the error."""

    def __call__(self, state: TrainState, error: Diverged) -> None: ...


def train(
    update: Update,
    *,
    speed: Speed,
    run_log: RunLog,
    save: Hook,
    hooks: Sequence[Hook] = (),
    after_step: Callable[[], None] | None = None,
    stop: Stop | None = None,
    rollback: Rollback | None = None,
    stop_at: StopAt | None = None,
) -> None:
    """Trains up to ``update.settings.steps``, or until it is good enough.

    Arguments:
        update: Takes a step; its state may be past step 0.
        speed: Makes operations per second of images per second.
        run_log: Where metrics go.
        save: Called after all that a step has to log, so that a run which goes on from there
            neither lacks nor repeats any of it.
        hooks: Called in order after every ``hook.every`` steps, and after the last.
        after_step: Called after every step, whose outcome may not be certain yet.
        stop: Says when to save and leave before the last step.
        rollback: Called where the loss or its gradient stops being finite.
        stop_at: Says, after looks, whether the run is as good as was asked for.

    Raises:
        Diverged: Where the loss or its gradient stops being finite; no weight is touched.
        Preempted: Where ``stop`` has said so; everything is saved.
    """
    state, settings, timer = update.state, update.settings, update.timer
    meter = _Meter(state, settings.batch_size, timer)
    state.denoiser.train()
    timer.start()
    quiet = None if is_main() else True  # None: where it is no terminal.
    bar = tqdm(initial=state.step, total=settings.steps, unit="step", disable=quiet)
    look = _Looks(state, meter, save=save, stop=stop)

    # Tracebacks keep what it refers to; were that the update, they would keep connections open.
    def go_back(error: Diverged) -> None:
        if rollback is None:
            raise error
        rollback(state, error)
        timer.lap("hooks")
        bar.update(state.step - bar.n)

    how_long = _HowLong(state, settings)
    with bar, beside_bars():
        look.take_up(hooks)
        # Checkpoints of earlier versions have none.
        state.cpu_seconds = max(state.cpu_seconds, run_log.last.get("train/cpu_seconds", 0.0))
        processor = ProcessorTime(state)
        if stop_at is not None and agreed(stop_at() or None):
            look.end(hooks)  # It was left after the looks, and before the end.
        while state.step < settings.steps and not state.ended:
            started = time.perf_counter()
            processor.start()
            last = state.step + 1 == settings.steps
            logs = (state.step + 1) % settings.log_every == 0
            due = [hook for hook in (*hooks, save) if (state.step + 1) % hook.every == 0 or last]
            try:
                meter.add(update())
                if due or logs:
                    update.settle()
            except Diverged as error:
                go_back(error)
                continue
            if logs or due:
                processor.tell()
            if logs or last:
                row = meter.read()
                row |= speed.figures(row["train/images_per_second"])
                bar.set_postfix(loss=f"{row['train/loss']:.4f}")
                row["train/lr"] = state.optimizer.param_groups[0]["lr"]
                row["train/images_seen"] = state.step * settings.batch_size
                row["train/seconds"] = state.seconds + time.perf_counter() - started
                row["train/cpu_seconds"] = state.cpu_seconds
                row |= memory(state.loss_sum.device)
                run_log.metrics(row, step=state.step)
                _say(state, settings, row)
            if last:
                log.info("the last step is taken; measuring, drawing and saving")
            if logs:
                meter.reset()
            bar.update()
            state.seconds += (took := time.perf_counter() - started)
            processor.pause()
            how_long(took)
            look(due)
            if after_step is not None:
                after_step()
            if stop_at is not None and due:
                if not (logs or last):
                    stop_at.note(state)
                if agreed(stop_at() or None) and not last:
                    look.end([hook for hook in hooks if hook not in due or hook.name == "grids"])
            timer.lap("hooks")
            if state.ended:
                break
            reason = None if stop is None or last else agreed(stop.reason)
            if reason is not None:
                try:
                    update.settle()
                except Diverged as error:
                    go_back(error)  # To a checkpoint, so there is nothing to save.
                else:
                    if save not in due:
                        processor.tell()
                        save(state)
                raise Preempted(f"{reason}: saved at step {state.step} of {settings.steps}")


class _Looks:
    """Calls hooks between steps; one that is interrupted is called again where the run goes on.

    Arguments:
        state: What is trained.
        meter: Leaves the time that hooks take out of the throughput.
        save: Writes a checkpoint.
        stop: Interrupts hooks that heed it.
    """

    def __init__(
        self, state: TrainState, meter: "_Meter", *, save: Hook, stop: Stop | None
    ) -> None:
        self.state = state
        self.meter = meter
        self.save = save
        self.stop = stop or Stop()

    def __call__(self, due: Sequence[Hook]) -> None:
        """Calls ``due`` in order.

        Raises:
            Preempted: Where the run was told to stop meanwhile; what is left is in the checkpoint.
        """
        state = self.state
        for i, hook in enumerate(due):
            try:
                with self.meter.paused(), self.stop.heeded(), _heeding(state):
                    hook(state)
            except Interrupted as interrupted:
                state.pending = [left.name for left in due[i:] if left is not self.save]
                self.save(state)
                raise Preempted(
                    f"{interrupted}: saved at step {state.step}; still to do there: "
                    f"{', '.join(state.pending)}"
                ) from None
            state.denoiser.train()

    def end(self, hooks: Sequence[Hook]) -> None:
        """Calls hooks as after the last step, and saves: the run is good enough."""
        self.state.ended = True
        self([*hooks, self.save])

    def take_up(self, hooks: Sequence[Hook]) -> None:
        """Calls those of ``hooks`` that an earlier launch was interrupted in."""
        if not self.state.pending:
            return
        pending, self.state.pending = self.state.pending, []
        self([*(hook for hook in hooks if hook.name in pending), self.save])


@contextmanager
def _heeding(state: TrainState) -> Iterator[None]:
    """Within, every call of a denoiser is an occasion to stop, see :func:`heed`."""

    def look(module: nn.Module, inputs: object) -> None:
        heed()

    denoisers = (state.denoiser, state.averaged)
    handles = [denoiser.register_forward_pre_hook(look) for denoiser in denoisers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _HowLong:
    """Says, some steps into a launch, how long it will take; the first steps prepare more."""

    def __init__(self, state: TrainState, settings: TrainerSettings) -> None:
        self.state = state
        self.settings = settings
        self.took: list[float] = []

    def __call__(self, seconds: float) -> None:
        """Takes note of a step; a GPU's has only been queued by then, and tells nothing."""
        if len(self.took) == _TIMED or self.state.loss_sum.is_cuda:
            return
        self.took.append(seconds)
        left = self.settings.steps - self.state.step
        if len(self.took) == _TIMED and left > _TIMED:
            each = statistics.median(self.took)
            log.info(
                "%d more steps take about %s, at %.2g s each, besides drawing and judging",
                left,
                tqdm.format_interval(left * each),
                each,
            )


def _say(state: TrainState, settings: TrainerSettings, row: dict[str, float]) -> None:
    """One line for logs and consoles that show no progress bar."""
    rate = row["train/images_per_second"]
    left = (settings.steps - state.step) * settings.batch_size / rate
    log.info(
        "step %d/%d  loss %.4f  %.0f images/s%s  %s left",
        state.step,
        settings.steps,
        row["train/loss"],
        rate,
        f"  {100 * row['train/mfu']:.1f} % of peak" if "train/mfu" in row else "",
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
