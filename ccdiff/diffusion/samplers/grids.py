"""Where a sampler stops on its way from noise to image: grids of times, as data.

A grid is a frozen record that turns a schedule and a number of steps into times. It starts at 1,
or, where it bounds the noise level, at the first time that is noisy enough, and ends at 0.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ccdiff.diffusion.schedules import Schedule
from ccdiff.errors import UserError

__all__ = ["Grid", "Karras", "LogSNR", "Quadratic", "Trailing", "Uniform"]


@dataclass(frozen=True, kw_only=True)
class Grid(ABC):
    """The contract: times for a schedule and a number of steps."""

    @abstractmethod
    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """``steps + 1`` strictly falling times in [0, 1], the last one 0, float64 on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Uniform(Grid):
    """Equal steps in ``t``."""

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Quadratic(Grid):
    """Squares of equally spaced numbers, so that steps shrink towards the image.

    Song et al., Denoising Diffusion Implicit Models, 2021 (arXiv:2010.02502), appendix D.2.
    """

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64).square()


@dataclass(frozen=True, kw_only=True)
class Trailing(Grid):
    """Equal steps in ``t``, rounded to the ``i / num_steps`` of a discrete-time model.

    Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed, 2023
    (arXiv:2305.08891), table 2: the first step starts from pure noise.

    Arguments:
        num_steps: T, how many noise levels the discrete-time model knows.
    """

    num_steps: int = 1000

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        if steps > self.num_steps:
            raise UserError(
                f"the grid has {self.num_steps} times, too few for sampler.steps={steps}: "
                "lower the steps or use sampler/grid=uniform"
            )
        exact = torch.linspace(self.num_steps, 0, steps + 1, dtype=torch.float64)
        return exact.round() / self.num_steps


@dataclass(frozen=True, kw_only=True)
class _NoiseLevels(Grid):
    """Shared by the grids laid out in the noise level ``sigma / alpha``, whatever the schedule.

    Starts where the level is ``sigma_max``, comes to ``sigma_min`` in the last step but one, and
    then goes to ``t = 0``. A bound outside the range of the schedule is the end of that range.
    """

    sigma_max: float = 80.0
    sigma_min: float = 0.002

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                "need 0 < sigma_min < sigma_max in the sampler's grid, "
                f"got {self.sigma_min} and {self.sigma_max}"
            )

    @abstractmethod
    def levels(self, start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
        """Noise levels at ``fractions`` of the way, from ``start`` at 0 to ``end`` at 1."""

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        zero = torch.zeros((), dtype=torch.float64)
        noisiest, cleanest = ((-schedule.log_snr(t) / 2).exp() for t in (zero + 1, zero))
        start, end = noisiest.clamp(max=self.sigma_max), cleanest.clamp(min=self.sigma_min)
        # Where sigma_min is met at t = 0 or beyond, the last level is t = 0 itself.
        count = steps if end > cleanest else steps + 1
        fractions = torch.linspace(0, 1, count, dtype=torch.float64)[:steps]
        times = schedule.time(-2 * self.levels(start, end, fractions).log())
        if start == noisiest:
            times[0] = 1
        return torch.cat([times, zero.unsqueeze(0)])


@dataclass(frozen=True, kw_only=True)
class LogSNR(_NoiseLevels):
    """Equal steps in ``log_snr``.

    Lu et al., DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around
    10 Steps, 2022 (arXiv:2206.00927), section 3.4.

    Arguments:
        sigma_max: Noise level ``sigma / alpha`` to start from.
        sigma_min: Noise level before the last step.
    """

    def levels(self, start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
        return torch.lerp(start.log(), end.log(), fractions).exp()


@dataclass(frozen=True, kw_only=True)
class Karras(_NoiseLevels):
    """Equal steps in ``(sigma / alpha)^(1 / rho)``.

    Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022
    (arXiv:2206.00364), eq. 5.

    Arguments:
        sigma_max: Noise level ``sigma / alpha`` to start from.
        sigma_min: Noise level before the last step.
        rho: Larger values put more steps at low noise.
    """

    rho: float = 7.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rho <= 0:
            raise ValueError(f"rho of the sampler's grid must be positive, got {self.rho}")

    def levels(self, start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
        root = 1 / self.rho
        return torch.lerp(start**root, end**root, fractions) ** self.rho
