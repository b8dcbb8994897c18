"""What a sampler is, and the one loop that runs any of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.samplers.grids import Grid, Uniform
from ccdiff.diffusion.samplers.noise import NoiseSource
from ccdiff.diffusion.schedules import Schedule

__all__ = [
    "Estimate",
    "Level",
    "OnStep",
    "Sampler",
    "integrate",
    "level_at",
    "sample",
    "start_std",
]


class Level(NamedTuple):
    """The noise level at one time, as scalars of the CPU."""

    log_snr: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def ratio(self) -> Tensor:
        """``sigma / alpha``."""
        return (-self.log_snr / 2).exp()


def level_at(schedule: Schedule, t: Tensor) -> Level:
    """The noise level of ``schedule`` at the scalar time ``t``."""
    log_snr = schedule.log_snr(t)
    return Level(log_snr, *schedule.scales(log_snr))


class Estimate(NamedTuple):
    """What a step learned on its first call: ``x0_hat`` [B, ...] at the scalar time ``t``."""

    t: Tensor
    x0_hat: Tensor


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """The contract: :meth:`step`; ``order`` is that of the global error of the ODE it solves.

    Arguments:
        steps: Number of steps from noise to image.
        grid: Where to stop on the way.
    """

    steps: int
    grid: Grid = field(default_factory=Uniform)

    order: ClassVar[int]
    calls_per_step: ClassVar[int] = 1
    """Network calls of a step; the last one, onto t = 0, takes a single call in every sampler."""
    memory: ClassVar[int] = 0
    """How many estimates of earlier steps a step wants to see."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"sampler.steps must be at least 1, got {self.steps}")

    @property
    def stochastic(self) -> bool:
        """Whether steps draw noise, so that the path is not the solution of an ODE."""
        return False

    @property
    def calls(self) -> int:
        """Network calls of a whole run."""
        return self.calls_per_step * (self.steps - 1) + 1

    def times(self, schedule: Schedule) -> Tensor:
        """The grid under ``schedule``, float64 [steps + 1] on the CPU, falling to 0."""
        return self.grid(schedule, self.steps)

    @abstractmethod
    def step(
        self,
        denoise: Denoise,
        schedule: Schedule,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        noise: NoiseSource,
        past: Sequence[Estimate] = (),
    ) -> Tensor:
        """``x_s`` from ``x_t`` [B, ...], for scalar times ``t`` and ``s`` on the CPU.

        Deterministic samplers step in either direction, stochastic ones only to ``s < t``.

        Arguments:
            denoise: ``(x_t, t) -> x0_hat``.
            schedule: Gives the scales.
            x_t: Samples at ``t``.
            t: Time now.
            s: Time next.
            noise: Source of randomness.
            past: First estimates of earlier steps, latest first, at most ``memory`` of them.
        """


OnStep = Callable[[int, Tensor, Tensor], None]
"""``(step number from 1, x_s, x0_hat)``, called after each step."""


@torch.no_grad()
def integrate(
    sampler: Sampler,
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    noise: NoiseSource,
    *,
    on_step: OnStep | None = None,
    constrain: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Carries ``x`` from ``times[0]`` through every time to ``times[-1]``.

    Arguments:
        sampler: The method; its own grid plays no part.
        denoise: Model, guided model or oracle.
        schedule: The schedule to sample under.
        x: Samples at ``times[0]``, [B, ...].
        times: Any monotone times in [0, 1], float64 [N + 1].
        noise: Source of the randomness of every step.
        on_step: Called after each step.
        constrain: ``(x_s, s) -> x_s``, applied to the outcome of each step.

    Returns:
        The samples at ``times[-1]``, with the shape, dtype and device of ``x``.
    """
    past: tuple[Estimate, ...] = ()
    # Times and scales are scalars of the CPU, where they cost no kernel launch and no wait.
    for i, (t, s) in enumerate(pairwise(times.cpu()), start=1):
        estimates: list[Estimate] = []

        def recording(x_u: Tensor, u: Tensor, into: list[Estimate] = estimates) -> Tensor:
            into.append(Estimate(u, denoise(x_u, u)))
            return into[-1].x0_hat

        x = sampler.step(recording, schedule, x, t, s, noise, past)
        past = (estimates[0], *past)[: sampler.memory]
        if constrain is not None:
            x = constrain(x, s)
        if on_step is not None:
            on_step(i, x, estimates[0].x0_hat)
    return x


def start_std(schedule: Schedule, t: Tensor) -> Tensor:
    """Of unit-variance data at ``t``: at the start ``alpha`` is small but need not be zero."""
    _, alpha, sigma = level_at(schedule, t)
    return (alpha.square() + sigma.square()).sqrt()


def sample(
    sampler: Sampler,
    denoise: Denoise,
    schedule: Schedule,
    shape: Iterable[int],
    noise: NoiseSource,
    *,
    on_step: OnStep | None = None,
) -> Tensor:
    """Runs ``sampler`` over its own grid, from pure noise to t = 0.

    Arguments:
        sampler: The method and its grid.
        denoise: Model, guided model or oracle.
        schedule: The schedule to sample under.
        shape: Of the samples, [B, ...].
        noise: Initial noise and that of every step.
        on_step: Called after each step.

    Returns:
        The samples at t = 0, nominally in [-1, 1].
    """
    times = sampler.times(schedule)
    x = start_std(schedule, times[0]) * noise.randn(torch.Size(shape))
    return integrate(sampler, denoise, schedule, x, times, noise, on_step=on_step)
