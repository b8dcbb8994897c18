"""The error of the denoised image: what diffusion models and flow matching are trained by."""

from dataclasses import dataclass

from torch import Tensor

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives.core import Draw, Objective

__all__ = ["Denoising"]


@dataclass(frozen=True, kw_only=True)
class Denoising(Objective):
    """``w(log_snr) c_out^2 |F - F*|^2``, which equals ``w |x0_hat - x0|^2``.

    Computed in network-output space, where nothing cancels at the ends of the schedule. Ho et al.,
    2020 (arXiv:2006.11239), eq. 14, with the weight of any
    :class:`~ccdiff.diffusion.weightings.Weighting`.

    Arguments:
        weighting: ``w``, the weight on the squared ``x0`` error.
        times: Where training looks.
    """

    def at(self, denoiser: Denoiser, x0: Tensor, y: Tensor, draw: Draw) -> Tensor:
        level = denoiser.schedule.at(draw.t)
        alpha, sigma = level.scales_like(x0)
        _, c_out, _ = denoiser.coefficients(x0, level)
        target = denoiser.prediction.target(x0, draw.eps, alpha, sigma)
        output = denoiser.output(alpha * x0 + sigma * draw.eps, level, y, draw.drop)
        squared_error = (output - target).square().flatten(1).mean(1)
        return self.weighting(level.log_snr) * c_out.flatten().square() * squared_error
