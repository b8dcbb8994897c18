r"""Solvers of the probability-flow ODE in the noise level, which forget each step.

With ``z = x / alpha`` and ``u = sigma / alpha`` the ODE of any schedule is ``dz/du = eps_hat``,
where ``eps_hat = (x - alpha x0_hat) / sigma``: Karras et al., 2022 (arXiv:2206.00364), eq. 4.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import ClassVar

from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.samplers.core import Past, Sampler
from ccdiff.diffusion.samplers.noise import AnyNoise
from ccdiff.diffusion.schedules import Schedule

__all__ = ["Euler", "Heun", "StochasticHeun"]

# Measured on trained models and oracles at 5 to 20 calls: beyond it Heun errs by 4 to 260 times as
# much, in the mean, as with the best grid for as many calls.
_MAX_RATIO = 40.0


def _slope(denoise: Denoise, level: Level, x_t: Tensor) -> Tensor:
    """``dz/du = eps_hat`` at ``x_t``, with its shape."""
    return (x_t - level.alpha * denoise(x_t, level)) / level.sigma


def _along(now: Level, after: Level, x_t: Tensor, slope: Tensor) -> Tensor:
    """``x_s`` on the straight line of ``z`` over ``u`` through ``x_t``."""
    return after.alpha * (x_t / now.alpha + (after.ratio - now.ratio) * slope)


@dataclass(frozen=True, kw_only=True)
class Euler(Sampler):
    """``z_s = z_t + (u_s - u_t) eps_hat``, which is DDIM at ``eta = 0``.

    Song et al., Denoising Diffusion Implicit Models, 2021 (arXiv:2010.02502), eq. 14.
    """

    order: ClassVar[int] = 1

    def step(
        self, denoise: Denoise, x_t: Tensor, now: Level, after: Level, noise: AnyNoise, past: Past
    ) -> Tensor:
        return _along(now, after, x_t, _slope(denoise, now, x_t))


@dataclass(frozen=True, kw_only=True)
class Heun(Sampler):
    """The trapezoidal rule: a step of Euler, then again with the mean slope of both ends.

    Karras et al., 2022 (arXiv:2206.00364), algorithm 1. Onto ``t = 0`` the step of Euler stands,
    as there; it needs a grid whose steps in ``u`` shrink as ``u`` does.
    """

    order: ClassVar[int] = 2
    calls_per_step: ClassVar[int] = 2

    def doubt(self, schedule: Schedule) -> str | None:
        """Where a step takes nearly all noise away at once.

        The second slope divides what is wrong with ``x_s`` by ``sigma_s``, and the step multiplies
        it by ``u_t - u_s``: together by half the ratio of the two levels.
        """
        levels = [schedule.at(t) for t in self.times(schedule)[:-1]]
        ratios = [(now.ratio / after.ratio).item() for now, after in pairwise(levels)]
        if max(ratios, default=0.0) <= _MAX_RATIO:
            return None
        return (
            f"sampler={self.name} is unstable in steps as long as these: one goes from noise of "
            f"sigma/alpha {levels[ratios.index(max(ratios))].ratio.item():.3g} down to 1/"
            f"{max(ratios):.0f} of it, and errors grow by half of that ratio. Use more "
            f"sampler.steps, sampler/grid=logistic, or sampler=dpmpp_2m"
        )

    def step(
        self, denoise: Denoise, x_t: Tensor, now: Level, after: Level, noise: AnyNoise, past: Past
    ) -> Tensor:
        slope = _slope(denoise, now, x_t)
        x_s = _along(now, after, x_t, slope)
        if after.t == 0:
            return x_s
        return _along(now, after, x_t, (slope + _slope(denoise, after, x_s)) / 2)


@dataclass(frozen=True, kw_only=True)
class StochasticHeun(Heun):
    """Heun's steps, each after a little fresh noise that lets earlier errors fade.

    Karras et al., 2022 (arXiv:2206.00364), algorithm 2; defaults as for ImageNet in table 5.

    Arguments:
        steps: Number of steps from noise to image.
        grid: Where to stop on the way.
        name: What it is called in logs and tables.
        churn: The paper's S_churn: how much noise in all; 0 is :class:`Heun`.
        churn_min: S_tmin, the lowest noise level ``sigma / alpha`` at which noise is added.
        churn_max: S_tmax, the highest.
        inflate: S_noise, standard deviation of the noise, a little over 1.
    """

    churn: float = 40.0
    churn_min: float = 0.05
    churn_max: float = 50.0
    inflate: float = 1.003

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.churn < 0 or self.inflate <= 0:
            raise ValueError(
                f"need churn >= 0 and inflate > 0, got {self.churn} and {self.inflate}"
            )

    @property
    def stochastic(self) -> bool:
        return self.churn > 0

    def step(
        self, denoise: Denoise, x_t: Tensor, now: Level, after: Level, noise: AnyNoise, past: Past
    ) -> Tensor:
        if self.churn > 0 and self.churn_min <= now.ratio <= self.churn_max:
            growth = 1 + min(self.churn / self.steps, sqrt(2) - 1)
            # The schedule may end below the level aimed at; its end is taken then.
            noisier = now.schedule.at_log_snr(-2 * (growth * now.ratio).log())
            added = (noisier.ratio.square() - now.ratio.square()).clamp(min=0).sqrt()
            fresh = self.inflate * added * noise.randn(x_t.shape)
            x_t, now = noisier.alpha * (x_t / now.alpha + fresh), noisier
        return super().step(denoise, x_t, now, after, noise, past)
