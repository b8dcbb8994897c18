"""A multistep method whose coefficients were fitted to a model and a number of steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.samplers.core import Past, Sampler, integrate
from ccdiff.diffusion.samplers.grids import Fitted
from ccdiff.diffusion.samplers.multistep import UniPC
from ccdiff.diffusion.samplers.noise import AnyNoise, GivenNoise
from ccdiff.diffusion.schedules import Schedule
from ccdiff.errors import UserError

__all__ = ["FittedMultistep", "linear_form"]

_NEAR = 1e-3
"""How far two values of ``log_snr`` may lie apart that are meant to be one."""


@dataclass(frozen=True, kw_only=True)
class FittedMultistep(UniPC):
    r"""``x_s / std_s = a x_t / std_t + sum_j w_j x0_hat_j``, with ``a`` and ``w`` of each step.

    The sum is over all ``x0_hat`` so far, and ``std`` is that of :class:`Level`, so that the same
    numbers serve any schedule. Every solver with one call per step and no noise is of this form;
    :func:`~ccdiff.diffusion.samplers.coefficients.fit_coefficients` finds the numbers by which
    few steps come nearest to a model's own ODE. Without any it is :class:`UniPC`, and
    :meth:`missing` says so.

    Arguments:
        steps: Number of steps from noise to image, for which the coefficients are.
        grid: Where to stop on the way: with coefficients, the levels that were fitted with them.
        name: What it is called in logs and tables.
        variant: As of :class:`UniPC`.
        coefficients: For each step ``a``, then ``w`` of the first to the latest ``x0_hat``.

    Raises:
        ValueError: Where they are not as many as the steps, or not finite.
        UserError: Where the grid is another one than the fitted.
    """

    coefficients: Sequence[Sequence[float]] | None = None

    memory: ClassVar[int] = 1_000
    """All of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coefficients is None:
            return
        rows = tuple(tuple(row) for row in self.coefficients)
        if [len(row) for row in rows] != list(range(2, self.steps + 2)):
            raise ValueError(
                f"sampler.coefficients must be one row for each of sampler.steps={self.steps}, "
                f"of 2, 3, ... numbers, got rows of {[len(row) for row in rows]}"
            )
        if not all(isfinite(value) for row in rows for value in row):
            raise ValueError("sampler.coefficients must be finite numbers")
        if len(self._levels) != self.steps:
            raise UserError(
                f"sampler={self.name} has coefficients for the levels that were fitted with them: "
                f"leave sampler/grid as it is"
            )
        object.__setattr__(self, "coefficients", rows)  # Lists cannot be hashed.

    def brief(self) -> Sampler:
        """A step of :class:`UniPC`."""
        return UniPC(steps=1, name=self.name)

    def missing(self) -> str | None:
        """The coefficients."""
        if self.coefficients is not None:
            return None
        return (
            f"sampler={self.name} takes the coefficients that were fitted to a run: fit some "
            f"with python -m ccdiff.fit run=<run> sampler={self.name} steps=[{self.steps}]"
        )

    @property
    def _levels(self) -> Sequence[float]:
        return (self.grid.levels or ()) if isinstance(self.grid, Fitted) else ()

    def times(self, schedule: Schedule) -> Tensor:
        """The levels that were fitted, as times.

        Raises:
            UserError: Where the schedule does not reach them.
        """
        times = super().times(schedule)
        if self.coefficients is not None:
            reached = schedule.log_snr(times[:-1])
            apart = (reached - torch.tensor(self._levels, dtype=torch.float64)).abs().max()
            if apart > _NEAR:
                raise UserError(
                    f"sampler={self.name} was fitted at log-SNR {self._levels[0]:.3g} to "
                    f"{self._levels[-1]:.3g}, which this schedule does not reach: fit again "
                    f"with schedule=..., or draw with the schedule of training"
                )
        return times

    def step(
        self, denoise: Denoise, x_t: Tensor, now: Level, after: Level, noise: AnyNoise, past: Past
    ) -> Tensor:
        if self.coefficients is None:
            return super().step(denoise, x_t, now, after, noise, past[: UniPC.memory])
        i = len(past)
        if i >= self.steps or abs(float(now.log_snr) - self._levels[i]) > _NEAR:
            raise UserError(
                f"sampler={self.name} goes from noise alone to the image in the {self.steps} "
                f"steps that it was fitted for, and in no other way: use another sampler here, "
                f"such as unipc"
            )
        shrink, *weights = self.coefficients[i]
        x_s = (shrink * after.std / now.std).item() * x_t
        estimates = [*(e.x0_hat for e in reversed(past)), denoise(x_t, now)]
        for weight, x0_hat in zip(weights, estimates, strict=True):
            x_s = x_s + (weight * after.std).item() * x0_hat
        return x_s


def linear_form(sampler: Sampler, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """What a solver does, as numbers: its calls and its result are sums of what it knows by then.

    Found by running it on unit vectors in place of images.

    Arguments:
        sampler: Deterministic, with one call for each of its N steps.
        schedule: The schedule to sample under.

    Returns:
        The ``log_snr`` of each call, [N], and by how much the noise and each ``x0_hat`` count in
        what the network is given at each call and in the result, each over its standard
        deviation: [N + 1, N + 1], float64, whose row i is zero from the estimate i on.
    """
    n = sampler.steps
    levels: list[Tensor] = []
    rows: list[Tensor] = []

    def unit(x_t: Tensor, level: Level) -> Tensor:
        levels.append(level.log_snr)
        rows.append(x_t[0] / level.std)
        return torch.eye(n + 1, dtype=torch.float64)[None, len(levels)]

    times = sampler.times(schedule)
    start = schedule.at(times[0]).std * torch.eye(n + 1, dtype=torch.float64)[:1]
    result = integrate(sampler, unit, schedule, start, times, GivenNoise())
    if len(levels) != n:
        raise ValueError(f"{sampler.name} takes {len(levels)} calls for {n} steps, not one each")
    return torch.stack(levels), torch.stack([*rows, result[0] / schedule.at(times[-1]).std])
