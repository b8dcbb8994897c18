"""Where a loss or gradient stopped being finite: the noise level and the layer."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objective import Draw, Objective
from ccdiff.errors import UserError

__all__ = ["Diverged", "LabelledDraw", "diagnose"]


class Diverged(UserError):
    """A loss or gradient that is infinite or no number; the weights were not touched.

    Arguments:
        told: What the user is told.
        worst: The largest loss of an image, infinite where it is no number.
    """

    def __init__(self, told: str, *, worst: float = 0.0) -> None:
        super().__init__(told)
        self.worst = worst


class LabelledDraw(NamedTuple):
    """All that a loss is made of: images [B, C, H, W] in [-1, 1], labels, randomness."""

    x0: Tensor
    y: Tensor
    draw: Draw

    def split(self, count: int) -> Iterator["LabelledDraw"]:
        """The same in ``count`` equal parts."""
        size = len(self.x0) // count
        for start in range(0, len(self.x0), size):
            rows = slice(start, start + size)
            yield LabelledDraw(self.x0[rows], self.y[rows], self.draw.part(rows))


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
