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
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.samplers.core import Past, Sampler
from ccdiff.diffusion.samplers.noise import AnyNoise

__all__ = ["DPMpp2M", "UniPC"]


@dataclass(frozen=True, kw_only=True)
class DPMpp2M(Sampler):
    """DPM-Solver++(2M): ``x0_hat`` extrapolated to the middle of the step from the last two.

    Lu et al., 2022 (arXiv:2211.01095), algorithm 2; its stochastic form is SDE-DPM-Solver++(2M),
    appendix B.

    Arguments:
        steps: Number of steps from noise to image.
        grid: Where to stop on the way.
        name: What it is called in logs and tables.
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
        self, denoise: Denoise, x_t: Tensor, now: Level, after: Level, noise: AnyNoise, past: Past
    ) -> Tensor:
        h = (after.log_snr - now.log_snr) / 2
        x0_hat = middle = denoise(x_t, now)
        if past and after.t != 0:
            h_past = (now.log_snr - past[0].level.log_snr) / 2
            # Times beyond the clip of log_snr share one noise level: nothing to extrapolate from.
            if h_past != 0:
                middle = x0_hat + h / (2 * h_past) * (x0_hat - past[0].x0_hat)
        shrink = after.sigma / now.sigma * (-self.eta * h).exp()
        x_s = shrink * x_t - after.alpha * torch.expm1(-(1 + self.eta) * h) * middle
        if self.eta == 0:
            return x_s
        fresh = (-torch.expm1(-2 * self.eta * h)).sqrt()
        return x_s + after.sigma * fresh * noise.randn(x_t.shape)


@dataclass(frozen=True, kw_only=True)
class UniPC(Sampler):
    r"""Predicts with the last two ``x0_hat``, then corrects with the three that are known next.

    ``x0_hat`` is a polynomial in ``lam`` through what is known, and its integral is exact. The
    correction of ``x_s`` waits for the call at ``s`` that the next step makes anyway: third order
    for one call per step, from the first step on. Zhao et al., UniPC: A Unified
    Predictor-Corrector Framework for Fast Sampling of Diffusion Models, 2023 (arXiv:2302.04867),
    algorithms 5 and 6 with a predictor of order 2.

    Arguments:
        steps: Number of steps from noise to image.
        grid: Where to stop on the way.
        name: What it is called in logs and tables.
        variant: How two known ``x0_hat`` are weighed: ``exact`` as above, or ``bh1`` and ``bh2``
            as the paper does, by half of ``B(h) = h`` or ``B(h) = e^h - 1`` (section 3.2), which
            agree with it to second order. Three are weighed exactly in all.
    """

    variant: Literal["exact", "bh1", "bh2"] = "exact"

    order: ClassVar[int] = 3
    memory: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in ("exact", "bh1", "bh2"):
            raise ValueError(f"sampler.variant must be exact, bh1 or bh2, got {self.variant!r}")

    def step(
        self, denoise: Denoise, x_t: Tensor, now: Level, after: Level, noise: AnyNoise, past: Past
    ) -> Tensor:
        known = [denoise(x_t, now), *(e.x0_hat for e in past)]
        lams = [float(now.log_snr) / 2, *(float(e.level.log_snr) / 2 for e in past)]
        shrink = after.sigma / now.sigma
        weights = torch.zeros(len(known), dtype=torch.float64)
        if past:
            # Prediction and correction leave from the same x: they differ in x0_hat alone.
            came = lams[1], lams[0]
            weights += self._weights(lams, *came)
            weights[1:] -= self._weights(lams[1:], *came)
            weights *= float(shrink * now.alpha)
        used = 1 if after.t == 0 else 2
        going = lams[0], float(after.log_snr) / 2
        weights[:used] += float(after.alpha) * self._weights(lams[:used], *going)
        x_s = shrink * x_t
        for weight, x0_hat in zip(weights.tolist(), known, strict=True):
            x_s = x_s + weight * x0_hat
        return x_s

    def _weights(self, lams: Sequence[float], start: float, end: float) -> Tensor:
        """Weights of the values at ``lams`` in a step from ``start``, which is one of them."""
        h = end - start
        if self.variant == "exact" or len(lams) != 2 or h == 0 or lams[0] == lams[1]:
            return _adams(lams, start, end)
        base = lams.index(start)
        # Of the value at start and of the slope to the other one.
        level, slope = -expm1(-h), (h if self.variant == "bh1" else -expm1(-h)) / 2
        share = slope * h / (lams[1 - base] - start)
        weights = torch.tensor([share, share], dtype=torch.float64)
        weights[base] = level - share
        return weights


def _adams(lams: Sequence[float], start: float, end: float) -> Tensor:
    r"""Weights of the values at ``lams`` in ``\int_start^end exp(lam - end) P(lam) d lam``.

    ``P`` is the polynomial through those values. Of values at one place, the first counts.
    """
    h = end - start
    weights = torch.zeros(len(lams), dtype=torch.float64)
    if h == 0:
        return weights
    first = {(lam - start) / h: i for i, lam in reversed(list(enumerate(lams)))}
    places = sorted(first)
    # Weights that integrate 1, tau, tau^2, ... exactly.
    powers = torch.tensor(
        [[place**k for place in places] for k in range(len(places))], dtype=torch.float64
    )
    moments = torch.tensor(_moments(h, len(places)), dtype=torch.float64)
    weights[[first[place] for place in places]] = torch.linalg.solve(powers, moments)
    return weights


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
