"""Where a sampler stops on its way from noise to image: grids of times, as data.

A grid is a frozen record that turns a schedule and a number of steps into times. It starts at 1,
or, where it bounds the noise level, at the first time that is noisy enough, and ends at 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, log

import torch
from torch import Tensor

from ccdiff.diffusion.schedules import Schedule
from ccdiff.errors import UserError

__all__ = ["Fitted", "Grid", "Karras", "LogSNR", "Logistic", "Quadratic", "Trailing", "Uniform"]


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


@dataclass(frozen=True, kw_only=True)
class Logistic(Grid):
    """Equal shares of a logistic distribution of ``log_snr``, the last step straight to t = 0.

    Most steps where images take shape, few where nothing is left of them and where all is. Under
    the flow schedule with ``loc=0 scale=2`` these are equal steps in ``t``.

    Arguments:
        loc: The ``log_snr`` about which levels are densest.
        scale: How far they spread; towards infinity this is equal steps in ``log_snr``.
        sigma_max: Noise level ``sigma / alpha`` to start from.
    """

    loc: float = 0.0
    scale: float = 3.0
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if self.scale <= 0 or self.sigma_max <= 0:
            raise ValueError(
                "scale and sigma_max of the sampler's grid must be positive, "
                f"got {self.scale} and {self.sigma_max}"
            )

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        noisiest, cleanest = _ends(schedule)
        start = noisiest.clamp(min=-2 * log(self.sigma_max))
        first, last = (torch.sigmoid((end - self.loc) / self.scale) for end in (start, cleanest))
        fractions = torch.linspace(0, 1, steps + 1, dtype=torch.float64)[:-1]
        levels = self.loc + self.scale * torch.logit(torch.lerp(first, last, fractions))
        return _times_at(levels, schedule)


def _ends(schedule: Schedule) -> Tensor:
    """``log_snr`` at t = 1 and at t = 0, float64 [2]."""
    return schedule.log_snr(torch.tensor([1.0, 0.0], dtype=torch.float64))


def _times_at(levels: Tensor, schedule: Schedule) -> Tensor:
    """The times of rising ``log_snr``, then t = 0."""
    times = schedule.time(levels)
    if levels[0] <= _ends(schedule)[0]:
        times[0] = 1
    return torch.cat([times, times.new_zeros(1)])


@dataclass(frozen=True, kw_only=True)
class Fitted(Grid):
    """Levels that were found for one model, one sampler and one number of steps.

    :func:`~ccdiff.diffusion.samplers.fitting.fit_levels` finds them. For another number of steps
    they are taken in between, linearly; a schedule of another range has them stretched to it.

    Arguments:
        levels: ``log_snr`` before each step, rising; None, as in the config, is refused.
    """

    levels: Sequence[float] | None

    def __post_init__(self) -> None:
        if not self.levels:
            raise UserError(
                "sampler/grid=fitted takes the grid that was fitted to a run: fit one with "
                "python -m ccdiff.fit run=<run> sampler=<sampler> steps=[<number>]"
            )
        rising = all(a < b for a, b in pairwise(self.levels))
        if not rising or not all(isfinite(level) for level in self.levels):
            raise ValueError(f"levels of a fitted grid must rise, got {list(self.levels)}")
        object.__setattr__(self, "levels", tuple(self.levels))  # Lists cannot be hashed.

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        assert self.levels
        noisiest, cleanest = _ends(schedule)
        levels = torch.tensor(list(self.levels), dtype=torch.float64)
        start = levels[0].clamp(noisiest, cleanest - 1)
        if start != levels[0] or levels[-1] >= cleanest:
            end = torch.maximum(levels[-1] + 1e-3, cleanest)
            levels = start + (levels - levels[0]) * (cleanest - start) / (end - levels[0])
        table = torch.cat([levels, cleanest.unsqueeze(0)])
        places = torch.linspace(0, len(levels), steps + 1, dtype=torch.float64)[:-1]
        i = places.long()
        return _times_at(torch.lerp(table[i], table[i + 1], places - i), schedule)
