"""One step to the clean image, learned by agreeing with itself at a cleaner level: consistency."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Reach, expand_like
from ccdiff.diffusion.objectives.core import Draw, Objective, same_dropout

__all__ = ["Consistency"]


@dataclass(frozen=True, kw_only=True)
class Consistency(Objective):
    """``(sqrt(w |f(x_t) - sg f(x_r)|^2 + c^2) - c) / (1 - r / t)``, with ``f(x_0) = x0``.

    ``x_t`` and ``x_r`` share their image and noise, and ``t`` and ``r`` are noise levels
    ``sigma / alpha``, with ``r / t = 1 - n(t) / factor^a`` and ``n(t) = 1 + 8 sigmoid(-t)``; the
    stage ``a`` is 1 at first and one more every so many steps. Where that is 0 or less, the target
    is the image itself, so that training begins near denoising. ``f`` is the network that is
    trained, without averages, and ``sg`` takes no gradient. Geng et al., Consistency Models Made
    Easy, 2024 (arXiv:2406.14548), section 3 and appendix A; there the weight on ``|f - f|`` is
    ``1 / (t - r)``, which is that of ``weighting=snr`` here.

    Arguments:
        weighting: ``w``, the weight on the squared difference.
        times: Where training looks.
        factor: The paper's q, by which ``1 - r / t`` shrinks at each stage.
        every: Optimizer steps of a stage.
        stages: How many there are; the last one goes on.
        c: Weighted differences below it count by their square, those above it by their size.
    """

    factor: float = 2.0
    every: int = 400
    stages: int = 8
    c: float = 0.03

    reaches: ClassVar[frozenset[Reach]] = frozenset({Reach.END})

    def __post_init__(self) -> None:
        if self.factor <= 1:
            raise ValueError(f"objective.factor must be above 1, got {self.factor}")
        for name in ("every", "stages"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"objective.{name} must be at least 1, got {value}")
        if self.c <= 0:
            raise ValueError(f"objective.c must be positive, got {self.c}")

    def draw(
        self, denoiser: Denoiser, x0: Tensor, generator: torch.Generator, *, step: int = 0
    ) -> Draw:
        """The same, and the second levels, which come nearer from stage to stage."""
        draw = super().draw(denoiser, x0, generator, step=step)
        ratio = denoiser.schedule.at(draw.t).ratio
        stage = 1 + min(step // self.every, self.stages - 1)
        apart = (1 + 8 * torch.sigmoid(-ratio)) / self.factor**stage
        return draw._replace(toward=-2 * (ratio * (1 - apart).clamp(min=0)).log())

    def at(self, denoiser: Denoiser, x0: Tensor, y: Tensor, draw: Draw) -> Tensor:
        level = denoiser.schedule.at(draw.t)
        end = denoiser.schedule.at(torch.zeros_like(draw.t))
        alpha, sigma = level.scales_like(x0)
        apart, correction = torch.ones_like(draw.t), torch.zeros_like(x0)
        if draw.toward is not None:
            cleaner = denoiser.schedule.at_log_snr(draw.toward)
            clean = draw.toward >= end.log_snr
            scales = cleaner.scales_like(x0)
            with torch.no_grad(), same_dropout(denoiser, x0.device):
                x_r = scales[0] * x0 + scales[1] * draw.eps
                there = denoiser(x_r, cleaner.leading_to(end), y, draw.drop)
            correction = (there - x0).masked_fill(expand_like(clean, x0), 0)
            apart = torch.where(clean, apart, 1 - cleaner.ratio / level.ratio)
        target = denoiser.prediction.target(x0, draw.eps, alpha, sigma)
        output = denoiser.output(
            alpha * x0 + sigma * draw.eps, level.leading_to(end), y, draw.drop
        )
        error = denoiser.coefficients(x0, level).c_out * (output - target) - correction
        weighted = self.weighting(level.log_snr) * error.square().flatten(1).mean(1)
        return ((weighted + self.c**2).sqrt() - self.c) / apart
