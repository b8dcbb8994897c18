"""Samplers whose few long steps the network has learned, which no solver could take by itself."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.levels import Level, Reach, straight_step
from ccdiff.diffusion.samplers.core import Past, Sampler
from ccdiff.diffusion.samplers.grids import Uniform
from ccdiff.diffusion.samplers.noise import AnyNoise
from ccdiff.diffusion.schedules import Schedule

__all__ = ["ConsistencySampler", "MeanFlowSampler", "ShortcutSampler"]


@dataclass(frozen=True, kw_only=True)
class MeanFlowSampler(Sampler):
    """Steps by the average velocity over the whole step: ``z_r = z_t - (t - r) u(z_t, r, t)``.

    Geng et al., Mean Flows for One-step Generative Modeling, 2025 (arXiv:2505.13447), eq. 12, on
    the straight path ``z = x / (alpha + sigma)``, where it is the step of DDIM by the estimate
    that leads to the next level. Exact for a network that has learned its objective, however few
    the steps; with estimates of the level itself it would be DDIM.
    """

    order: ClassVar[int] = 1
    reach: ClassVar[Reach] = Reach.ANYWHERE

    def step(
        self, denoise: Denoise, x_t: Tensor, now: Level, after: Level, noise: AnyNoise, past: Past
    ) -> Tensor:
        x0_hat = denoise(x_t, now.leading_to(after))
        return straight_step(x0_hat, x_t, now, after)


@dataclass(frozen=True, kw_only=True)
class ShortcutSampler(MeanFlowSampler):
    """The same steps, of uniform grids of 1, 2, 4, ... steps, which are all that was learned.

    Frans et al., One Step Diffusion via Shortcut Models, 2024 (arXiv:2410.12557), algorithm 2.
    """

    reach: ClassVar[Reach] = Reach.HALVES

    def doubt(self, schedule: Schedule) -> str | None:
        if self.steps & (self.steps - 1):
            return (
                f"sampler={self.name} has learned 1, 2, 4, 8, ... steps, each half as long, and "
                f"none of length 1/{self.steps}: use sampler.steps="
                f"{2 ** (self.steps.bit_length() - 1)}"
            )
        if not isinstance(self.grid, Uniform):
            return (
                f"sampler={self.name} has learned the steps of the uniform grid alone: use "
                f"sampler/grid=uniform"
            )
        return None


@dataclass(frozen=True, kw_only=True)
class ConsistencySampler(Sampler):
    """Goes to the clean image in one step, adds noise of the next level, and goes again.

    Song et al., Consistency Models, 2023 (arXiv:2303.01469), algorithm 1.
    """

    order: ClassVar[int] = 1
    reach: ClassVar[Reach] = Reach.END

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, denoise: Denoise, x_t: Tensor, now: Level, after: Level, noise: AnyNoise, past: Past
    ) -> Tensor:
        end = now.schedule.at_log_snr(torch.full_like(now.log_snr, inf))
        x_s = after.alpha * denoise(x_t, now.leading_to(end))
        return x_s if after.t == 0 else x_s + after.sigma * noise.randn(x_t.shape)
