r"""Solvers that also use what earlier steps have seen, at one network call per step.

In ``lam = log_snr / 2`` the linear part of the probability-flow ODE is solved exactly,
``x_s = sigma_s / sigma_t x_t + alpha_s \int exp(lam - lam_s) x0_hat(lam) d lam`` over the step,
and only ``x0_hat`` is approximated. Lu et al., DPM-Solver++: Fast Solver for Guided Sampling of
Diffusion Probabilistic Models, 2022 (arXiv:2211.01095), proposition 4.1.

The last step, onto t = 0, may be very long in ``lam``; it takes ``x0_hat`` as constant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1
from typing import ClassVar

import torch
from torch import Tensor

from ccdiff.denoiser import Denoise
from ccdiff.samplers.core import Estimate, Sampler
from ccdiff.samplers.noise import NoiseSource
from ccdiff.schedules import Schedule

__all__ = ["DPMpp2M", "UniPC"]


def _lam(schedule: Schedule, t: Tensor) -> Tensor:
    return schedule.log_snr(t) / 2


@dataclass(frozen=True, kw_only=True)
class DPMpp2M(Sampler):
    """DPM-Solver++(2M): ``x0_hat`` extrapolated to the middle of the step from the last two.

    Lu et al., 2022 (arXiv:2211.01095), algorithm 2; its stochastic form is SDE-DPM-Solver++(2M),
    appendix B.

    Arguments:
        steps: Number of steps from noise to image.
        grid: Where to stop on the way.
        eta: 0 solves the ODE, 1 the reverse SDE of ancestral sampling, in [0, 1].
    """

    eta: float = 0.0

    order: ClassVar[int] = 2
    memory: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"sampler.eta must be in [0, 1], got {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

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
        x0_hat = middle = denoise(x_t, t)
        h = _lam(schedule, s) - _lam(schedule, t)
        if past and s != 0:
            h_past = _lam(schedule, t) - _lam(schedule, past[0].t)
            # Times beyond the clip of log_snr share one noise level: nothing to extrapolate from.
            if h_past != 0:
                middle = x0_hat + h / (2 * h_past) * (x0_hat - past[0].x0_hat)
        shrink = schedule.sigma(s) / schedule.sigma(t) * (-self.eta * h).exp()
        x_s = shrink * x_t - schedule.alpha(s) * torch.expm1(-(1 + self.eta) * h) * middle
        if self.eta == 0:
            return x_s
        fresh = (-torch.expm1(-2 * self.eta * h)).sqrt()
        return x_s + schedule.sigma(s) * fresh * noise.randn(x_t.shape)


@dataclass(frozen=True, kw_only=True)
class UniPC(Sampler):
    r"""Predicts with the last two ``x0_hat``, then corrects with the three that are known next.

    ``x0_hat`` is a polynomial in ``lam`` through what is known, and its integral is exact. The
    correction of ``x_s`` waits for the call at ``s`` that the next step makes anyway: third order
    for one call per step, from the first step on. Zhao et al., UniPC: A Unified
    Predictor-Corrector Framework for Fast Sampling of Diffusion Models, 2023 (arXiv:2302.04867),
    algorithms 5 and 6 with a predictor of order 2.
    """

    order: ClassVar[int] = 3
    memory: ClassVar[int] = 2

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
        known = (Estimate(t, denoise(x_t, t)), *past)
        if past:
            # Both integrals leave from the same x: where x_t went wrong is in x0_hat alone.
            arrived = past[0].t, t
            x_t = x_t + _integral(schedule, known, *arrived) - _integral(schedule, past, *arrived)
        shrink = schedule.sigma(s) / schedule.sigma(t)
        return shrink * x_t + _integral(schedule, known[: 1 if s == 0 else 2], t, s)


def _integral(schedule: Schedule, known: Sequence[Estimate], t: Tensor, s: Tensor) -> Tensor:
    r"""``alpha_s \int_{lam_t}^{lam_s} exp(lam - lam_s) P(lam) d lam``.

    ``P`` is the polynomial through the estimates in ``known``, one or more, latest first.
    """
    start, h = _lam(schedule, t), float(_lam(schedule, s) - _lam(schedule, t))
    if h == 0:
        return torch.zeros_like(known[0].x0_hat)
    # A dict, since estimates beyond the clip of log_snr share one place; the latest counts.
    places = {float(_lam(schedule, e.t) - start) / h: e.x0_hat for e in reversed(known)}
    nodes = torch.tensor(list(places), dtype=torch.float64)
    powers = torch.arange(len(nodes), dtype=torch.float64).unsqueeze(1)
    moments = torch.tensor(_moments(h, len(nodes)), dtype=torch.float64)
    # Weights that integrate 1, tau, tau^2, ... exactly.
    weights = torch.linalg.solve(nodes**powers, moments)
    total = torch.zeros_like(known[0].x0_hat)
    for weight, x0_hat in zip(weights, places.values(), strict=True):
        total = total + weight * x0_hat
    return schedule.alpha(s) * total


def _moments(h: float, count: int) -> list[float]:
    r"""``m_k = \int_0^1 h e^{h (tau - 1)} tau^k d tau = 1 - k m_{k-1} / h``, for k < count."""
    if abs(h) >= 1:
        moments = [-expm1(-h)]
        for k in range(1, count):
            moments.append(1 - k * moments[-1] / h)
        return moments
    # Upwards the recursion cancels at small h; downwards every step divides the error by k / h.
    moments = [0.0]
    for k in range(20 + count, 0, -1):
        moments.append(h * (1 - moments[-1]) / k)
    return moments[: -count - 1 : -1]
