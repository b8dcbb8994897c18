"""A gradient that is not finite: kept from the weights, traced to a noise level and a layer."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives import Objective
from ccdiff.distributed.group import broadcast, gather
from ccdiff.errors import UserError
from ccdiff.training.state import LabelledDraw, TrainState

__all__ = ["Diverged", "Guard", "diagnose"]


class Diverged(UserError):
    """A loss or gradient that is infinite or no number; the weights were not touched.

    Arguments:
        message: Where it came from, and what to do.
        worst: The largest loss of an image, infinite where it is no number.
    """

    def __init__(self, message: str, *, worst: float = 0.0) -> None:
        super().__init__(message)
        self.worst = worst


class Guard:
    """Keeps a gradient that is not finite from the weights, and asks nothing of the device.

    Fused optimizers, and Muon on a GPU, leave out an update where a flag on the device says so,
    and the program reads the flag one step later, when the device has long passed it. For other
    optimizers it waits for the norm of the gradient at each step.

    Arguments:
        state: What is trained.
        objective: The loss.
    """

    def __init__(self, state: TrainState, objective: Objective) -> None:
        self.state = state
        self.objective = objective
        device = state.loss_sum.device
        # On a Mac's GPU there is no event to ask whether a copy has come: it is waited for.
        late = _skips(state.optimizer) and device.type != "mps"
        self._flag = _Flag(device) if late else None
        self._diagnosing = False

    @property
    def late(self) -> bool:
        """Whether the program knows of a step only one step later."""
        return self._flag is not None

    def check(self, norm: Tensor, batch: LabelledDraw, loss: Tensor) -> None:
        """Comes between a gradient and its update.

        Arguments:
            norm: The gradient's, a scalar on the device.
            batch: What the gradient was taken of.
            loss: The mean loss of the batch.

        Raises:
            Diverged: Where the norm is not finite and that is known already.
        """
        if self._flag is not None and not self._diagnosing:
            found = self._flag.raise_where(~torch.isfinite(norm))
            self.state.optimizer.found_inf = found  # type: ignore[attr-defined]
        elif self._diagnosing or not torch.isfinite(norm):
            raise self._diverged(batch, loss)

    def left_out(self) -> bool:
        """Whether the device has left out the last step."""
        return self._flag is not None and self._flag.read()

    @contextmanager
    def diagnosing(self) -> Iterator[None]:
        """Within, a step that was left out is taken again, up to its gradient."""
        self._diagnosing = True
        try:
            yield
        finally:
            self._diagnosing = False

    def _diverged(self, batch: LabelledDraw, loss: Tensor) -> Diverged:
        """The error of a batch whose gradient, which the parameters hold, is not finite."""
        state = self.state
        with state.denoiser.eager():
            error = diagnose(state.denoiser, self.objective, batch, step=state.step, loss=loss)
        state.optimizer.zero_grad(set_to_none=True)
        return _worst_of_ranks(error)


@torch.no_grad()
def diagnose(
    denoiser: Denoiser, objective: Objective, batch: LabelledDraw, *, step: int, loss: Tensor
) -> Diverged:
    """Says where a gradient that is not finite came from, by another pass forward.

    Arguments:
        denoiser: With the gradients.
        objective: The loss.
        batch: What it was taken of.
        step: Its number, from 0.
        loss: Its mean.
    """
    # One image at a time, because the whole batch may not fit in memory as it did in parts.
    losses = torch.cat(
        [objective.at(denoiser, one.x0, one.y, one.draw) for one in batch.split(len(batch.x0))]
    )
    sizes = losses.nan_to_num(nan=float("inf"), posinf=float("inf"))
    worst = int(sizes.argmax())
    log_snr = denoiser.schedule.log_snr(batch.draw.t[worst]).item()
    return Diverged(
        f"training diverged at step {step}: the loss is {loss.item()}, and the largest of an "
        f"image, {losses[worst].item()}, is at log-SNR {log_snr:.2f}; "
        f"{_first_layer(denoiser, objective, batch, worst)}. The weights were not touched. Lower "
        f"optimizer.lr, raise trainer.warmup, or try trainer.precision=fp32 or "
        f"trainer.on_nonfinite=rollback",
        worst=sizes[worst].item(),
    )


def _first_layer(denoiser: Denoiser, objective: Objective, batch: LabelledDraw, worst: int) -> str:
    """The first layer whose output is not finite, else that with the first such gradient."""
    broken: list[str] = []

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def look(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if isinstance(output, Tensor) and not torch.isfinite(output).all():
                broken.append(name)

        return module.register_forward_hook(look)

    leaves = [(n, m) for n, m in denoiser.named_modules() if not list(m.children())]
    handles = [watch(name, module) for name, module in leaves]
    try:
        rows = slice(worst, worst + 1)
        objective.at(denoiser, batch.x0[rows], batch.y[rows], batch.draw.part(rows))
    finally:
        for handle in handles:
            handle.remove()
    if broken:
        return f"the first layer whose output is not finite is {broken[0]}"
    # Gradients run from the output to the input, so the first of them is of the last layer.
    layers = [*denoiser.conditioning.named_parameters(), *denoiser.network.named_parameters()]
    for name, parameter in reversed(layers):
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"the first gradient that is not finite, from the output, is that of {name}"
    return "the gradients are finite, but not their norm"


def _worst_of_ranks(error: Diverged) -> Diverged:
    """The error of the process with the largest loss, alike on all."""
    found = gather((error.worst, str(error)))
    message = max(found, key=lambda one: one[0])[1] if found else ""
    return Diverged(broadcast(message), worst=error.worst)


def _skips(optimizer: Optimizer) -> bool:
    """Whether the optimizer leaves out an update where its ``found_inf``, a tensor, is 1."""
    # Those of torch do where they are fused, and say in each group whether they are.
    fused = all(group.get("fused", True) for group in optimizer.param_groups)
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
