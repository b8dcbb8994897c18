"""Grids fitted to a model: the levels at which few steps come nearest to the model's own ODE.

What few steps miss depends on where a model's estimate bends, which no formula knows. So the
levels are searched for, by the distance between what a sampler draws and the fine solution from
the same noise. Others fit times by a bound on the likelihood (Watson et al., Learning to
Efficiently Sample from Diffusion Probabilistic Models, 2021, arXiv:2106.03802) or on the error of
a discretised SDE (Sabour et al., Align Your Steps, 2024, arXiv:2404.14507).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise, product
from math import inf, isfinite

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.samplers.core import Sampler, sample
from ccdiff.diffusion.samplers.grids import Fitted, Logistic
from ccdiff.diffusion.samplers.multistep import DPMpp2M
from ccdiff.diffusion.samplers.noise import GivenNoise
from ccdiff.diffusion.schedules import Schedule
from ccdiff.errors import UserError

__all__ = ["fine_solution", "fit_levels", "rms_to"]

_LEAST_STEP = 0.02
"""The least difference in ``log_snr`` between two levels."""

Levels = tuple[float, ...]


def fine_solution(denoise: Denoise, schedule: Schedule, eps: Tensor, *, steps: int) -> Tensor:
    """Where the probability-flow ODE leads from the noise ``eps``, by many steps."""
    sampler = DPMpp2M(steps=steps, grid=Logistic(loc=2.0, scale=5.5))
    return sample(sampler, denoise, schedule, eps.shape, GivenNoise(eps))


def rms_to(
    exact: Tensor, sampler: Sampler, denoise: Denoise, schedule: Schedule, eps: Tensor
) -> float:
    """Root mean square, over all numbers, of what ``sampler`` misses of ``exact`` from ``eps``."""
    x = sample(sampler, denoise, schedule, eps.shape, GivenNoise(eps))
    return (x - exact).square().mean().sqrt().item()


def fit_levels(
    sampler: Sampler,
    denoise: Denoise,
    schedule: Schedule,
    eps: Tensor,
    exact: Tensor,
    *,
    tries: int,
    on_try: Callable[[], None] = lambda: None,
) -> Levels:
    """The levels with which a sampler comes nearest to the fine solution.

    The best of the sampler's own grid and several logistic ones is improved level by level, and
    all together, by moves that grow where they help and shrink where they do not. Nothing is drawn
    at random: the same arguments give the same levels.

    Arguments:
        sampler: Deterministic, with its number of steps.
        denoise: Model, guided model or oracle.
        schedule: The schedule to sample under.
        eps: Noise to start from, [B, ...]; a few dozen do.
        exact: Where the ODE leads from there, as :func:`fine_solution` finds it.
        tries: How many grids to try at most, each for the calls of one run of the sampler.
        on_try: Called after each.

    Returns:
        The ``log_snr`` before each step, for :class:`~ccdiff.diffusion.samplers.grids.Fitted`.

    Raises:
        UserError: Where the sampler draws noise, which follows no ODE.
    """
    if sampler.stochastic:
        raise UserError(
            f"sampler={sampler.name} draws noise, so it follows no ODE that a grid could be "
            f"fitted to: take a deterministic one, such as unipc, dpmpp_2m, ddim or heun"
        )
    left = tries

    def error(levels: Levels) -> float:
        nonlocal left
        if any(b - a < _LEAST_STEP for a, b in pairwise(levels)) or left == 0:
            return inf
        left -= 1
        fitted = replace(sampler, grid=Fitted(levels=levels))
        found = rms_to(exact, fitted, denoise, schedule, eps)
        on_try()
        return found if isfinite(found) else inf

    best: Levels = ()
    least = inf
    for levels in _starts(sampler, schedule):
        found = error(levels)
        if found < least:
            best, least = levels, found
    moves = dict.fromkeys(_directions(len(best)), 0.5)
    while left > 0 and max(map(abs, moves.values()), default=0) > 0.01:
        for direction, length in moves.items():
            for signed in (length, -length):
                levels = tuple(a + signed * b for a, b in zip(best, direction, strict=True))
                found = error(levels)
                if found < least:
                    best, least = levels, found
                    # The next time it goes this way first, and further.
                    moves[direction] = 2 * signed
                    break
            else:
                moves[direction] = length / 2
    return best


def _starts(sampler: Sampler, schedule: Schedule) -> Iterator[Levels]:
    """Grids to begin with."""
    yield _levels(sampler, schedule)
    for loc, scale in product((-2.0, -1.0, 0.0, 1.0, 2.0), (1.5, 2.5, 4.0)):
        yield _levels(replace(sampler, grid=Logistic(loc=loc, scale=scale)), schedule)


def _levels(sampler: Sampler, schedule: Schedule) -> Levels:
    return tuple(schedule.log_snr(sampler.times(schedule)[:-1]).tolist())


def _directions(n: int) -> list[Levels]:
    """Each level alone, all of them, and all of them apart."""
    single = [tuple(float(i == j) for j in range(n)) for i in range(n)]
    spread = torch.linspace(-1, 1, n, dtype=torch.float64).tolist()
    return [(1.0,) * n, *([tuple(spread)] if n > 1 else []), *single]
