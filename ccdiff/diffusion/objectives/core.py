"""What an objective is: randomness of a batch, and the loss of each of its samples."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.times import TimeDensity
from ccdiff.diffusion.weightings import Weighting

__all__ = ["Draw", "Objective"]


class Draw(NamedTuple):
    """The randomness of a batch: times [B], noise [B, C, H, W], labels to hide [B] or [B, K]."""

    t: Tensor
    eps: Tensor
    drop: Tensor | None

    def part(self, rows: slice) -> "Draw":
        """The same for some rows of the batch."""
        return Draw(self.t[rows], self.eps[rows], None if self.drop is None else self.drop[rows])


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """The contract: :meth:`at`, the loss of each sample; what is random comes from :meth:`draw`.

    Arguments:
        weighting: ``w``, the weight on the squared ``x0`` error.
        times: Where training looks.
    """

    weighting: Weighting
    times: TimeDensity

    def __call__(
        self, denoiser: Denoiser, x0: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The loss of each sample [B] at the first step, with randomness from ``generator``."""
        return self.at(denoiser, x0, y, self.draw(denoiser, x0, generator))

    def draw(
        self, denoiser: Denoiser, x0: Tensor, generator: torch.Generator, *, step: int = 0
    ) -> Draw:
        """Times, noise and drop mask for a batch.

        Arguments:
            denoiser: The model under training.
            x0: Stands for the images: its shape [B, C, H, W], dtype and device count.
            generator: On the device of ``x0``.
            step: Optimizer steps taken, for what changes in the course of training.
        """
        t = self.times(len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        return Draw(t, eps, denoiser.conditioning.draw_drop(len(x0), generator))

    @abstractmethod
    def at(self, denoiser: Denoiser, x0: Tensor, y: Tensor, draw: Draw) -> Tensor:
        """The loss of each sample for a given draw, with nothing random of its own.

        Arguments:
            denoiser: The model under training.
            x0: Clean images in [-1, 1], float32 [B, C, H, W].
            y: Their labels, [B] or [B, K].
            draw: As :meth:`draw` returns it, or rows of it.

        Returns:
            Mean over pixels of the weighted squared error, float32 [B].
        """
