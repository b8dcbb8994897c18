"""One optimizer step: a batch, its loss and gradient, the update, the average."""

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from ccdiff.data import Batches, augment, to_float
from ccdiff.diffusion.objective import Objective
from ccdiff.distributed.group import sum_tensor_
from ccdiff.distributed.ranks import slice_of, world_size
from ccdiff.seeding import seed_for
from ccdiff.settings import TrainerSettings
from ccdiff.training.ddp import averaging, replicate, seed_apart, worst_of
from ccdiff.training.learning_rate import learning_rate_factor
from ccdiff.training.monitor.timing import StepTimer
from ccdiff.training.nonfinite import Diverged, LabelledDraw, diagnose
from ccdiff.training.state import TrainState

__all__ = ["Update"]


class Update:
    """Takes one optimizer step at each call, and asks nothing of the device meanwhile.

    A gradient that is not finite must not reach the weights. Fused optimizers are told by a flag
    on the device and leave out the update there; the program reads the flag one step later, when
    the device has long passed it. For other optimizers the program waits for it at each step.

    Arguments:
        state: What to change.
        objective: The loss.
        batches: Training images by batch number.
        flip: Whether to mirror images at random.
        settings: How long and how much.
        seed: Of times, noise, drop masks and mirroring.
        timer: Told where the time goes.
    """

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
        device = self.parameters[0].device
        self.generator = torch.Generator(device)
        self.losses = replicate(state.denoiser, objective)
        self.rows = slice_of(settings.batch_size)
        self._skipped = _Flag(device) if _skips(state.optimizer) else None

    def __call__(self) -> Tensor:
        """Takes the step and returns the loss before it, a scalar on the device.

        Raises:
            Diverged: Where the gradient of this step or the one before is not finite.
        """
        state, settings = self.state, self.settings
        batch = self._batch()
        self.timer.lap("data")
        loss = self._backward(batch)
        # Here the device has this step to do, and does not run dry while the flag is read.
        self.settle()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = get_total_norm(gradients, foreach=True)
        if self._skipped is not None:
            state.optimizer.found_inf = self._skipped.raise_where(~torch.isfinite(norm))  # type: ignore[attr-defined]
        elif not torch.isfinite(norm):
            raise self._diverged(batch, loss)
        # A gradient that is short enough would be multiplied by 1, which takes a pass over it.
        if self._skipped is not None or norm > settings.grad_clip:
            clip_grads_with_norm_(self.parameters, settings.grad_clip, norm, foreach=True)
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

    def settle(self) -> None:
        """Makes sure of the last step, before anybody looks at its outcome.

        Raises:
            Diverged: Where it was left out; ``state.step`` is its number again, but it may be in
                the sum of the losses and counts in the average.
        """
        if self._skipped is None or not self._skipped.read():
            return
        self.state.step -= 1
        self.state.optimizer.zero_grad(set_to_none=True)
        batch = self._batch()
        raise self._diverged(batch, self._backward(batch))

    def _diverged(self, batch: LabelledDraw, loss: Tensor) -> Diverged:
        """What to tell of a batch whose gradient, which the weights have, is not finite."""
        state = self.state
        with state.denoiser.eager():
            error = diagnose(state.denoiser, self.objective, batch, step=state.step, loss=loss)
        state.optimizer.zero_grad(set_to_none=True)
        return worst_of(error)

    def _batch(self) -> LabelledDraw:
        """Images, labels and randomness of the step, or of this process's rows of it."""
        state, batch_size = self.state, self.settings.batch_size
        seed_apart(self.seed, state.step)
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


def _skips(optimizer: Optimizer) -> bool:
    """Whether the optimizer leaves out an update where its ``found_inf``, a tensor, is 1."""
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and getattr(optimizer, "_step_supports_amp_scaling", False)


class _Flag:
    """A flag of the device that is read later, without a wait for all that came after it.

    Arguments:
        device: Whose.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.host: Tensor | None = None
        self.passed = torch.cuda.Event() if device.type == "cuda" else None

    def raise_where(self, condition: Tensor) -> Tensor:
        """The flag, float32 0 or 1 on the device, on its way to the program."""
        flag = condition.float()
        # To pinned memory, without which it would wait.
        self.host = flag.to("cpu", non_blocking=True)
        if self.passed is not None:
            self.passed.record(torch.cuda.current_stream(self.device))
        return flag

    def read(self) -> bool:
        """Whether it was raised since it was last read; waits until the device has passed it."""
        host, self.host = self.host, None
        if host is None:
            return False
        if self.passed is not None:
            self.passed.synchronize()
        return bool(host)
