"""What training changes, and a checkpoint keeps."""

from dataclasses import dataclass, field

import torch
from ema_pytorch import EMA
from torch import Tensor
from torch.optim import Optimizer

from ccdiff.diffusion.denoiser import Denoiser

__all__ = ["TrainState"]


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
