r"""Coefficients fitted to a model, by which few calls come nearest to the model's own ODE.

A sampler of N calls hands the network sums of the noise and of what the network said before:
``x_i / std_i = b_i0 eps + sum_j b_ij x0_hat_j``, at the level ``l_i``. These numbers, N levels and
N (N + 3) / 2 weights, are fitted all together to the fine solution. That solvers may be fitted so
is known from Duan et al., Optimal Linear Subspace Search, 2023 (arXiv:2305.14677), of weights step
by step, and Frankel et al., S4S: Solving for a Diffusion Model Solver, 2025 (arXiv:2502.17423), of
weights and times by gradients through the network. Here it is a problem of least squares with few
unknowns, solved by Levenberg and Marquardt's method (Marquardt, 1963), whose derivatives are
differences: calls of the network alone, so that it works through guidance and thresholds, and
takes the memory of drawing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.samplers.core import Sampler
from ccdiff.diffusion.samplers.fitted import FittedMultistep, linear_form
from ccdiff.diffusion.samplers.grids import Fitted
from ccdiff.diffusion.schedules import Schedule
from ccdiff.errors import UserError

__all__ = ["Batch", "fit_coefficients"]

_LEAST_STEP = 0.02
"""The least difference in ``log_snr`` between two levels."""
_MOVED_WEIGHT, _MOVED_LEVEL = 1e-2, 0.1
"""Over what differences are taken. A level's is wide, as networks may wiggle in the level."""
_FIRST_ROUNDS = 3
"""With the first batch, of each solver that the search may go on from."""


class Batch(NamedTuple):
    """What to fit to: labels within ``denoise``, noise ``eps`` and where it leads [B, ...]."""

    denoise: Denoise
    eps: Tensor
    exact: Tensor


@dataclass(frozen=True, kw_only=True)
class _Form:
    """Levels [N] and weights [N + 1, N + 1], as :func:`linear_form` gives them, both float64."""

    levels: Tensor
    weights: Tensor

    @classmethod
    def of(cls, sampler: Sampler, schedule: Schedule) -> "_Form":
        levels, weights = linear_form(sampler, schedule)
        return cls(levels=levels, weights=weights)

    @property
    def steps(self) -> int:
        return len(self.levels)

    def unknowns(self) -> Iterator[tuple[int, int | None]]:
        """What the i-th call is given, and where; the first one sees the noise alone."""
        for i in range(1, self.steps):
            yield i, None
            for j in range(i + 1):
                yield i, j

    def moved(self, by: Tensor) -> "_Form":
        """With other values of the unknowns, then of the result's weights."""
        levels, weights = self.levels.clone(), self.weights.clone()
        for (i, j), length in zip(self.unknowns(), by, strict=False):
            if j is None:
                levels[i] += length
            else:
                weights[i, j] += length
        weights[-1] += by[-self.steps - 1 :]
        return _Form(levels=levels, weights=weights)

    def valid(self, most: float) -> bool:
        """Whether the levels rise and end in time."""
        rising = all(b - a >= _LEAST_STEP for a, b in pairwise(self.levels.tolist()))
        return rising and float(self.levels[-1]) <= most

    def run(
        self, batch: Batch, schedule: Schedule, known: Sequence[Tensor], since: int = 0
    ) -> list[Tensor]:
        """The noise, each ``x0_hat`` and the result, given the first ``since`` estimates."""
        seen = list(known[: since + 1])
        for i in range(since, self.steps):
            level = schedule.at_log_snr(self.levels[i])
            std = float(level.std)
            x = _sum((std * self.weights[i, : i + 1]).tolist(), seen)
            seen.append(batch.denoise(x, level))
        return [*seen, _sum(self.weights[-1].tolist(), seen)]

    def sampler(self, name: str) -> FittedMultistep:
        """Each step as a change of the sample, which the next call is given."""
        rows = []
        for i, (before, after) in enumerate(pairwise(self.weights)):
            shrink = after[0] / before[0]
            rows.append([float(shrink), *(after - shrink * before)[1 : i + 2].tolist()])
        return FittedMultistep(
            steps=self.steps,
            grid=Fitted(levels=self.levels.tolist()),
            name=name,
            coefficients=rows,
        )


def _sum(weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = total + weight * value
    return total


@torch.no_grad()
def fit_coefficients(
    starts: Sequence[Sampler],
    schedule: Schedule,
    batches: Sequence[Batch],
    *,
    rounds: int,
    name: str = "fitted",
    on_round: Callable[[float], None] = lambda rms: None,
) -> FittedMultistep:
    """The sampler whose few steps come nearest to the fine solution.

    The search has several ends, so that it begins with each solver, goes three rounds with the
    first batch, and on with the best of them and all. Nothing is drawn at random: the same
    arguments give the same coefficients. A round costs the calls of some ``N^2 / 6`` runs of N
    steps.

    Arguments:
        starts: Deterministic solvers with one call for each step, of as many steps.
        schedule: The schedule to sample under.
        batches: Noise and where it leads, as
            :func:`~ccdiff.diffusion.samplers.fitting.fine_solution` finds it: some two hundred
            images in all, of which one batch is in memory at a time.
        rounds: How often the problem is made linear at most, with all batches.
        name: What the sampler is called in logs and tables.
        on_round: Called after each with the root mean square that is left.

    Raises:
        UserError: Where a solver draws noise, or takes more calls than steps.
    """
    for sampler in starts:
        if sampler.stochastic or sampler.calls != sampler.steps:
            raise UserError(
                f"sampler={sampler.name} draws noise or takes more than a call for a step: "
                f"coefficients are fitted from a solver such as unipc, dpmpp_2m or ddim on"
            )
    forms = [_Form.of(sampler, schedule) for sampler in starts]
    if rounds and len(forms) > 1:
        forms = [_improved(form, schedule, batches[:1], _FIRST_ROUNDS, on_round) for form in forms]
    best = min(forms, key=lambda form: _error(form, schedule, batches[:1]))
    return _improved(best, schedule, batches, rounds, on_round).sampler(name)


def _improved(
    form: _Form,
    schedule: Schedule,
    batches: Sequence[Batch],
    rounds: int,
    on_round: Callable[[float], None],
) -> _Form:
    """The form after some rounds, each of which is nearer than the one before."""
    most = float(schedule.log_snr(torch.zeros((), dtype=torch.float64))) - _LEAST_STEP
    damping, error = 1e-3, _error(form, schedule, batches)
    for _ in range(rounds):
        normal, pull = _normal_equations(form, schedule, batches)
        for _ in range(8):
            step = torch.linalg.solve(normal + damping * normal.diagonal().diag(), pull)
            tried = form.moved(step)
            found = _error(tried, schedule, batches) if tried.valid(most) else torch.inf
            if found < error:
                break
            damping *= 4
        else:
            break
        gained, form, error = 1 - found / error, tried, found
        on_round(error**0.5)
        damping = max(damping / 3, 1e-6)
        if gained < 1e-3:
            break
    return form


def _error(form: _Form, schedule: Schedule, batches: Sequence[Batch]) -> float:
    """Mean square, over all numbers; infinite where one is not finite."""
    total = sum(
        float((form.run(b, schedule, [b.eps])[-1] - b.exact).double().square().sum())
        for b in batches
    )
    mean = total / sum(b.exact.numel() for b in batches)
    return mean if mean == mean else torch.inf


def _normal_equations(
    form: _Form, schedule: Schedule, batches: Sequence[Batch]
) -> tuple[Tensor, Tensor]:
    """``J^T J`` and ``J^T r`` for the unknowns and the result's weights, float64 on the CPU."""
    size = len(list(form.unknowns())) + form.steps + 1
    normal = torch.zeros(size, size, dtype=torch.float64)
    pull = torch.zeros(size, dtype=torch.float64)
    for batch in batches:
        *seen, result = form.run(batch, schedule, [batch.eps])
        columns = []
        for k, (i, j) in enumerate(form.unknowns()):
            length = _MOVED_LEVEL if j is None else _MOVED_WEIGHT
            by = torch.zeros(size, dtype=torch.float64)
            by[k] = length
            there = form.moved(by).run(batch, schedule, seen, since=i)[-1]
            back = result
            if j is None:
                back = form.moved(-by).run(batch, schedule, seen, since=i)[-1]
                length *= 2
            columns.append(((there - back) / length).flatten())
        jacobian = torch.stack([*columns, *(value.flatten() for value in seen)], dim=1)
        missing = (batch.exact - result).flatten()
        normal += (jacobian.T @ jacobian).double().cpu()
        pull += (jacobian.T @ missing).double().cpu()
    return normal, pull
