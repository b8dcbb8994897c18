"""The training objective: a weighted denoising error, one value per sample."""

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
class Objective:
    """``w(log_snr) c_out^2 |F - F*|^2``, which equals ``w |x0_hat - x0|^2``.

    Computed in network-output space, where nothing cancels at the ends of the schedule.

    Arguments:
        weighting: ``w``, the weight on the squared ``x0`` error.
        times: Where training looks.
    """

    weighting: Weighting
    times: TimeDensity

    def __call__(
        self, denoiser: Denoiser, x0: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The loss of each sample [B], with randomness from ``generator``."""
        return self.at(denoiser, x0, y, self.draw(denoiser, x0, generator))

    def draw(self, denoiser: Denoiser, x0: Tensor, generator: torch.Generator) -> Draw:
        """Times, noise and drop mask for a batch; ``generator`` is on the device of ``x0``."""
        t = self.times(len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        return Draw(t, eps, denoiser.conditioning.draw_drop(len(x0), generator))

    def at(self, denoiser: Denoiser, x0: Tensor, y: Tensor, draw: Draw) -> Tensor:
        """The loss of each sample for a given draw.

        Arguments:
            denoiser: The model under training.
            x0: Clean images in [-1, 1], float32 [B, C, H, W].
            y: Their labels, [B] or [B, K].
            draw: Times, noise and drop mask.

        Returns:
            Mean over pixels of the weighted squared error, float32 [B].
        """
        level = denoiser.schedule.at(draw.t)
        alpha, sigma = level.scales_like(x0)
        _, c_out, _ = denoiser.coefficients(x0, level)
        target = denoiser.prediction.target(x0, draw.eps, alpha, sigma)
        output = denoiser.output(alpha * x0 + sigma * draw.eps, level, y, draw.drop)
        squared_error = (output - target).square().flatten(1).mean(1)
        return self.weighting(level.log_snr) * c_out.flatten().square() * squared_error
