"""Guidance learned in training, so that sampling takes one call of the network instead of two."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.objectives.core import Draw, check_hidden_labels, same_dropout
from ccdiff.diffusion.objectives.denoising import Denoising

__all__ = ["ModelGuidance"]


@dataclass(frozen=True, kw_only=True)
class ModelGuidance(Denoising):
    """``w(log_snr) |x0_hat - (x0 + (1 - 1 / scale) sg(x0_hat(c) - x0_hat(no label)))|^2``.

    ``sg`` takes no gradient of what it holds, and a hidden label is denoised as ever. The best
    estimate ``g`` solves ``g = E[x0 | x_t, c] + (1 - 1 / scale) (g - E[x0 | x_t])``, which is
    ``E[x0 | x_t] + scale (E[x0 | x_t, c] - E[x0 | x_t])``: that of
    :class:`~ccdiff.diffusion.guidance.CFG`. Tang et al., Diffusion Models without Classifier-free
    Guidance, 2025 (arXiv:2502.12154), whose target is ``eps + w sg(eps(c) - eps(no label))`` with
    ``w = 1 - 1 / scale``, here for any prediction, by the network that is trained, without
    averages. A step costs two more forward passes.

    Arguments:
        weighting: ``w``, the weight on the squared ``x0`` error.
        times: Where training looks.
        scale: Of the guidance that is learned, at least 1; 1 is none. Sampled by guidance=none.
    """

    scale: float = 2.0

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise ValueError(f"objective.scale must be at least 1, got {self.scale}")

    def draw(
        self, denoiser: Denoiser, x0: Tensor, generator: torch.Generator, *, step: int = 0
    ) -> Draw:
        """The same.

        Raises:
            UserError: Where there is something to learn, and labels are never hidden.
        """
        if self.scale != 1:
            check_hidden_labels(denoiser, "objective=model_guidance")
        return super().draw(denoiser, x0, generator, step=step)

    def at(self, denoiser: Denoiser, x0: Tensor, y: Tensor, draw: Draw) -> Tensor:
        if self.scale == 1:
            return super().at(denoiser, x0, y, draw)
        level = denoiser.schedule.at(draw.t)
        alpha, sigma = level.scales_like(x0)
        x_t = alpha * x0 + sigma * draw.eps
        pull = (1 - 1 / self.scale) * self._away(denoiser, x_t, level, y, draw.drop)
        target = denoiser.prediction.target(x0, draw.eps, alpha, sigma)
        output = denoiser.output(x_t, level, y, draw.drop)
        error = denoiser.coefficients(x0, level).c_out * (output - target) - pull
        return self.weighting(level.log_snr) * error.square().flatten(1).mean(1)

    @torch.no_grad()
    def _away(
        self, denoiser: Denoiser, x_t: Tensor, level: Level, y: Tensor, drop: Tensor | None
    ) -> Tensor:
        """The estimate with the label less that without, with the shape of ``x_t``."""
        shown = torch.zeros(len(y), dtype=torch.bool, device=y.device) if drop is None else drop
        with same_dropout(denoiser, x_t.device):
            told = denoiser(x_t, level, y, shown)
        with same_dropout(denoiser, x_t.device):
            return told - denoiser(x_t, level, y, torch.ones_like(shown))
