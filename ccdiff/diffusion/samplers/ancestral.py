"""Samplers that step by drawing from a distribution of ``x_s`` given ``x_t`` and ``x0_hat``."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.samplers.core import Past, Sampler
from ccdiff.diffusion.samplers.noise import AnyNoise

__all__ = ["DDIM", "DDPM"]


def _lost_share(now: Level, after: Level) -> Tensor:
    """``1 - snr_t / snr_s``: 0 where the levels coincide, 1 where ``t`` is pure noise."""
    return -torch.expm1(now.log_snr - after.log_snr)


@dataclass(frozen=True, kw_only=True)
class DDPM(Sampler):
    """Ancestral sampling: draws from the exact ``q(x_s | x_t, x0 = x0_hat)``.

    Ho et al., 2020 (arXiv:2006.11239), algorithm 2 with posterior variance (eq. 7), in the form
    for any two times of Kingma et al., Variational Diffusion Models, 2021 (arXiv:2107.00630),
    eq. 33.
    """

    order: ClassVar[int] = 1

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, denoise: Denoise, x_t: Tensor, now: Level, after: Level, noise: AnyNoise, past: Past
    ) -> Tensor:
        c = _lost_share(now, after)
        shrink = (now.alpha / after.alpha) * (after.sigma / now.sigma).square()
        mean = shrink * x_t + after.alpha * c * denoise(x_t, now)
        return mean + after.sigma * c.sqrt() * noise.randn(x_t.shape)


@dataclass(frozen=True, kw_only=True)
class DDIM(Sampler):
    """Deterministic at ``eta = 0``, ancestral (DDPM) at ``eta = 1``.

    Song et al., Denoising Diffusion Implicit Models, 2021 (arXiv:2010.02502), eq. 12 and 16.

    Arguments:
        steps: Number of steps from noise to image.
        grid: Where to stop on the way.
        name: What it is called in logs and tables.
        eta: Share of the ancestral noise that is added back, in [0, 1].
    """

    eta: float = 0.0

    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"sampler.eta must be in [0, 1], got {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(
        self, denoise: Denoise, x_t: Tensor, now: Level, after: Level, noise: AnyNoise, past: Past
    ) -> Tensor:
        x0_hat = denoise(x_t, now)
        eps_hat = (x_t - now.alpha * x0_hat) / now.sigma
        added = self.eta**2 * _lost_share(now, after)
        x_s = after.alpha * x0_hat + after.sigma * (1 - added).sqrt() * eps_hat
        if self.eta == 0:
            return x_s
        return x_s + after.sigma * added.sqrt() * noise.randn(x_t.shape)
