"""What training changes and a checkpoint keeps, what a step is taken of, and what looks on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from ema_pytorch import EMA
from torch import Tensor
from torch.optim import Optimizer

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives import Draw
from ccdiff.settings import TrainerSettings

__all__ = ["Hook", "LabelledDraw", "TrainState", "learning_rate_factor"]


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
    cpu_seconds: float = 0.0
    """The same of the processors, of all processes together, as of when it was last looked at."""
    draw: int = 0
    """How often training was rolled back: each time it goes on with another draw of the noise."""
    loss_sum: Tensor = field(init=False)
    """Sum of the losses since their mean was last logged, on the device."""
    loss_count: int = 0
    ended: bool = False
    """Whether it is as good as was asked for, before the last step."""
    pending: list[str] = field(default_factory=list)
    """Names of hooks that are still to be called after this step, where they were interrupted."""
    base_rates: list[float] = field(init=False)
    """Learning rates after warm-up; those of the config, whatever a checkpoint was using."""

    def __post_init__(self) -> None:
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.loss_sum = torch.zeros((), device=next(self.denoiser.parameters()).device)

    @property
    def averaged(self) -> Denoiser:
        """The denoiser with averaged weights."""
        return self.ema.ema_model

    def set_learning_rate(self, settings: TrainerSettings) -> None:
        """Gives the optimizer the learning rates of the step at hand."""
        factor = learning_rate_factor(
            self.step, steps=settings.steps, warmup=settings.warmup, cooldown=settings.cooldown
        )
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor


def learning_rate_factor(step: int, *, steps: int, warmup: int, cooldown: int) -> float:
    """What multiplies the learning rate at ``step`` (from 0) of ``steps``, in [0, 1].

    It rises linearly over ``warmup`` steps, stays at 1, and falls linearly over the last
    ``cooldown`` steps, or over all of them where there are fewer: Haegele et al., Scaling Laws and
    Compute-Optimal Training Beyond Fixed Training Durations, 2024 (arXiv:2405.18392).
    """
    falling = min(cooldown, steps)
    return max(0.0, min(1.0, (step + 1) / (warmup + 1), (steps - step) / (falling + 1)))


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


class Hook(Protocol):
    """Something to do every so many steps, and after the last.

    It may end by an :class:`~ccdiff.system.stopping.Interrupted` before it has recorded anything,
    and is then called again, maybe by another process, at the same step.
    """

    @property
    def name(self) -> str:
        """What a checkpoint calls it where it was interrupted."""

    @property
    def every(self) -> int:
        """Steps between calls."""

    def __call__(self, state: TrainState) -> None: ...
