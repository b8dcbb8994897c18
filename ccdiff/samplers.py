"""Samplers: from noise to images, one step at a time, over any :data:`Denoise`.

A sampler is a frozen record of its settings with one method, ``step``. The grid of times is data,
the loop is :func:`sample`, and randomness comes from a :class:`NoiseSource`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from ccdiff.denoiser import Denoise
from ccdiff.schedules import Schedule

__all__ = [
    "DDIM",
    "DDPM",
    "BatchNoise",
    "Estimate",
    "NoiseSource",
    "SampleNoise",
    "Sampler",
    "sample",
]


class NoiseSource(Protocol):
    """Where samplers take their randomness from."""

    def randn(self, shape: torch.Size) -> Tensor:
        """Standard normal noise of ``shape`` [B, ...], a new draw at each call."""


class SampleNoise:
    """One random stream per sample: an image depends on its seed, not on its batch.

    Arguments:
        seeds: One seed for each sample of the batch.
        device: Where the noise is drawn.
    """

    def __init__(self, seeds: Iterable[int], *, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def randn(self, shape: torch.Size) -> Tensor:
        """Float32 noise; ``shape[0]`` must be the number of seeds."""
        if shape[0] != len(self.generators):
            raise ValueError(f"{len(self.generators)} seeds for a batch of {shape[0]}")
        draws = [torch.randn(shape[1:], generator=g, device=self.device) for g in self.generators]
        return torch.stack(draws)


@dataclass(frozen=True)
class BatchNoise:
    """One random stream for the whole batch: quicker, for experiments on many small samples.

    Arguments:
        generator: The stream.
        dtype: Of the noise.
    """

    generator: torch.Generator
    dtype: torch.dtype = torch.float32

    def randn(self, shape: torch.Size) -> Tensor:
        device = self.generator.device
        return torch.randn(shape, generator=self.generator, device=device, dtype=self.dtype)


class Estimate(NamedTuple):
    """What a step learned on its first call: ``x0_hat`` [B, ...] at the scalar time ``t``."""

    t: Tensor
    x0_hat: Tensor


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """The contract: :meth:`step`; ``order`` is that of the global error of the ODE it solves.

    Arguments:
        steps: Number of steps from noise to image.
    """

    steps: int

    order: ClassVar[int]
    memory: ClassVar[int] = 0
    """How many estimates of earlier steps a step wants to see."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"sampler.steps must be at least 1, got {self.steps}")

    def times(self) -> Tensor:
        """The grid, float64 [steps + 1], falling from 1 to 0."""
        return torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)

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
        """``x_s`` from ``x_t`` [B, ...], for scalar times ``s < t``.

        Arguments:
            denoise: ``(x_t, t) -> x0_hat``.
            schedule: Gives the scales.
            x_t: Samples at ``t``.
            t: Time now.
            s: Time next.
            noise: Source of randomness.
            past: First estimates of earlier steps, latest first, at most ``memory`` of them.
        """


def _lost_share(schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
    """``1 - snr_t / snr_s``: 0 where the times coincide, 1 where ``t`` is pure noise."""
    return -torch.expm1(schedule.log_snr(t) - schedule.log_snr(s))


@dataclass(frozen=True, kw_only=True)
class DDPM(Sampler):
    """Ancestral sampling: draws from the exact ``q(x_s | x_t, x0 = x0_hat)``.

    Ho et al., 2020 (arXiv:2006.11239), algorithm 2 with posterior variance (eq. 7), in the form
    for any two times of Kingma et al., Variational Diffusion Models, 2021 (arXiv:2107.00630),
    eq. 33.
    """

    order: ClassVar[int] = 1

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
        x0_hat = denoise(x_t, t)
        c = _lost_share(schedule, t, s)
        shrink = (schedule.alpha(t) / schedule.alpha(s)) * (
            schedule.sigma(s) / schedule.sigma(t)
        ).square()
        mean = shrink * x_t + schedule.alpha(s) * c * x0_hat
        return mean + schedule.sigma(s) * c.sqrt() * noise.randn(x_t.shape)


@dataclass(frozen=True, kw_only=True)
class DDIM(Sampler):
    """Deterministic at ``eta = 0``, ancestral (DDPM) at ``eta = 1``.

    Song et al., Denoising Diffusion Implicit Models, 2021 (arXiv:2010.02502), eq. 12 and 16.

    Arguments:
        eta: Share of the ancestral noise that is added back, in [0, 1].
    """

    eta: float = 0.0

    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"sampler.eta must be in [0, 1], got {self.eta}")

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
        x0_hat = denoise(x_t, t)
        eps_hat = (x_t - schedule.alpha(t) * x0_hat) / schedule.sigma(t)
        added = self.eta**2 * _lost_share(schedule, t, s)
        kept = schedule.sigma(s) * (1 - added).sqrt()
        x_s = schedule.alpha(s) * x0_hat + kept * eps_hat
        if self.eta == 0:
            return x_s
        return x_s + schedule.sigma(s) * added.sqrt() * noise.randn(x_t.shape)


OnStep = Callable[[int, Tensor, Tensor], None]
"""``(step number from 1, x_s, x0_hat)``, called after each step."""


@torch.no_grad()
def sample(
    sampler: Sampler,
    denoise: Denoise,
    schedule: Schedule,
    shape: Iterable[int],
    noise: NoiseSource,
    *,
    on_step: OnStep | None = None,
) -> Tensor:
    """Runs ``sampler`` from pure noise at t = 1 to t = 0.

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
    x = noise.randn(torch.Size(shape))
    times = sampler.times().to(x.device)
    # The prior of unit-variance data; alpha(1) is small but need not be zero.
    x = x * (schedule.alpha(times[0]).square() + schedule.sigma(times[0]).square()).sqrt()
    past: tuple[Estimate, ...] = ()
    for i, (t, s) in enumerate(pairwise(times), start=1):
        estimates: list[Estimate] = []

        def recording(x_u: Tensor, u: Tensor, into: list[Estimate] = estimates) -> Tensor:
            into.append(Estimate(u, denoise(x_u, u)))
            return into[-1].x0_hat

        x = sampler.step(recording, schedule, x, t, s, noise, past)
        past = (estimates[0], *past)[: sampler.memory]
        if on_step is not None:
            on_step(i, x, estimates[0].x0_hat)
    return x
