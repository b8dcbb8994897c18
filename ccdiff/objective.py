"""The training objective: a weighted denoising error, one value per sample."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ccdiff.denoiser import Denoiser, expand_like
from ccdiff.times import TimeDensity
from ccdiff.weightings import Weighting

__all__ = ["Objective"]


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
        """The loss of each sample at times, noise and drop mask from ``generator``.

        Arguments:
            denoiser: The model under training.
            x0: Clean images in [-1, 1], float32 [B, C, H, W].
            y: Their labels, [B] or [B, K].
            generator: Source of all randomness, on the device of ``x0``.

        Returns:
            Mean over pixels of the weighted squared error, float32 [B].
        """
        t = self.times(len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        drop = denoiser.conditioning.draw_drop(len(x0), generator)
        return self.at(denoiser, x0, y, t=t, eps=eps, drop=drop)

    def at(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        y: Tensor,
        *,
        t: Tensor,
        eps: Tensor,
        drop: Tensor | None = None,
    ) -> Tensor:
        """The loss of each sample [B] at given times [B], noise and drop mask."""
        log_snr = denoiser.schedule.log_snr(t)
        alpha, sigma = (expand_like(scale, x0) for scale in denoiser.schedule.scales(log_snr))
        _, c_out, _ = denoiser.prediction.coefficients(alpha, sigma)
        target = denoiser.prediction.target(x0, eps, alpha, sigma)
        output = denoiser.output(alpha * x0 + sigma * eps, t, y, drop)
        squared_error = (output - target).square().flatten(1).mean(1)
        return self.weighting(log_snr) * c_out.flatten().square() * squared_error
