r"""Noise schedules: how much signal and how much noise an image holds at time ``t``.

A schedule maps time to two scales, ``x_t = alpha(t) x0 + sigma(t) eps``, with ``t`` in [0, 1]
(0 clean, 1 noise). What matters of it is ``log_snr = log(alpha^2 / sigma^2)``, which falls with
``t`` and is clipped to [min_log_snr, max_log_snr], so that neither scale is ever zero.

Discrete-time schedules of ``T`` steps are met exactly at ``t = i / T``; between two steps
``log alpha^2`` is a straight line, that is, noise is added at a constant rate within each step.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import cosh, log, pi, sqrt

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.widest import widest, widest_dtype

__all__ = [
    "Cosine",
    "Flow",
    "Linear",
    "Quadratic",
    "Schedule",
    "Sigmoid",
    "VariancePreserving",
]

_BISECTIONS = 64


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """The contract: :meth:`unclipped_log_snr` of times, and :meth:`scales` of noise levels.

    Both take tensors of any shape, elementwise. :class:`VariancePreserving` has the scales of
    most schedules.

    Arguments:
        max_log_snr: At t = 0; 15 leaves noise of 5.5e-4, less than a tenth of a gray level.
        min_log_snr: At t = 1; None is ``-max_log_snr``, and -15 leaves a signal of 5.5e-4. A
            higher one ends with less noise, and no less clean.
    """

    max_log_snr: float = 15.0
    min_log_snr: float | None = None

    def __post_init__(self) -> None:
        if self.max_log_snr <= 0:
            raise ValueError(f"max_log_snr must be positive, got {self.max_log_snr}")
        if self.min_log_snr is not None and self.min_log_snr >= 0:
            raise ValueError(f"min_log_snr must be negative, got {self.min_log_snr}")

    @abstractmethod
    def unclipped_log_snr(self, t: Tensor) -> Tensor:
        """``log(alpha^2 / sigma^2)`` as the formula has it; may be infinite at the ends."""

    @abstractmethod
    def scales(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """The scales ``(alpha, sigma)`` at a finite ``log_snr``, with its shape."""

    def log_snr(self, t: Tensor) -> Tensor:
        """``log(alpha^2 / sigma^2)`` clipped to [min_log_snr, max_log_snr], shape of ``t``."""
        least = -self.max_log_snr if self.min_log_snr is None else self.min_log_snr
        return self.unclipped_log_snr(t).clamp(least, self.max_log_snr)

    def at(self, t: Tensor) -> Level:
        """The level at times in [0, 1], of any shape."""
        log_snr = self.log_snr(t)
        alpha, sigma = self.scales(log_snr)
        return Level(log_snr=log_snr, alpha=alpha, sigma=sigma, schedule=self, time=t)

    def at_log_snr(self, log_snr: Tensor) -> Level:
        """The level of a given ``log_snr``; beyond the range of times, that of the nearer end."""
        noisiest, cleanest = self._ends
        log_snr = log_snr.clamp(noisiest, cleanest)
        alpha, sigma = self.scales(log_snr)
        return Level(log_snr=log_snr, alpha=alpha, sigma=sigma, schedule=self)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """``log_snr`` at t = 1 and at t = 0."""
        ends = self.log_snr(torch.tensor([1.0, 0.0], dtype=torch.float64, device="cpu"))
        return ends[0].item(), ends[1].item()

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale in (0, 1), shape of ``t``."""
        return self.at(t).alpha

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale in (0, 1), shape of ``t``."""
        return self.at(t).sigma

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of :meth:`log_snr`, by bisection in float64 where there is any.

        Keeps the shape and dtype of its argument. Levels outside the range of the schedule
        give its nearest end, 0 or 1.
        """
        level = widest(log_snr)
        low, high = torch.zeros_like(level), torch.ones_like(level)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            too_clean = self.log_snr(middle) > level
            low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
        return ((low + high) / 2).to(log_snr.dtype)


@dataclass(frozen=True, kw_only=True)
class VariancePreserving(Schedule):
    """Schedules with ``alpha^2 + sigma^2 = 1``; ``alpha^2`` is the literature's alpha-bar."""

    def scales(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """``alpha = sqrt(sigmoid(log_snr))`` and ``sigma = sqrt(sigmoid(-log_snr))``."""
        return (logsigmoid(log_snr) / 2).exp(), (logsigmoid(-log_snr) / 2).exp()


@dataclass(frozen=True, kw_only=True)
class Cosine(VariancePreserving):
    r"""``alpha^2 = cos^2(a) / cos^2(b)``, ``a = (t + s)/(1 + s) pi/2``, ``b = s/(1 + s) pi/2``.

    Nichol & Dhariwal, Improved Denoising Diffusion Probabilistic Models, 2021 (arXiv:2102.09672),
    eq. 17.

    Arguments:
        offset: The paper's s, which keeps the first noise level above the pixel quantisation.
    """

    offset: float = 0.008

    def unclipped_log_snr(self, t: Tensor) -> Tensor:
        """Uses ``1 - alpha^2 = sin(a - b) sin(a + b) / cos^2(b)`` and ``cos a = sin(pi/2 - a)``.

        Neither cancels, the first near t = 0 and the second near t = 1.
        """
        b = self.offset / (1 + self.offset) * pi / 2
        a_minus_b = t / (1 + self.offset) * (pi / 2)
        cos_a = torch.sin((1 - t) / (1 + self.offset) * (pi / 2))
        return 2 * cos_a.log() - (a_minus_b.sin() * (a_minus_b + 2 * b).sin()).log()


@dataclass(frozen=True, kw_only=True)
class _Betas(VariancePreserving):
    """Shared by the schedules given as ``T`` noise increments beta_1 .. beta_T."""

    beta_start: float = 1e-4
    beta_end: float = 0.02
    num_steps: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta_start < self.beta_end < 1:
            raise ValueError(
                "betas must satisfy 0 < beta_start < beta_end < 1, "
                f"got {self.beta_start} and {self.beta_end}"
            )
        if self.num_steps < 2:
            raise ValueError(f"num_steps must be at least 2, got {self.num_steps}")

    @abstractmethod
    def betas(self) -> Tensor:
        """The noise increments, float64 [T], in (0, 1)."""

    def unclipped_log_snr(self, t: Tensor) -> Tensor:
        """From ``log alpha^2``, the running sum of ``log(1 - beta)``, interpolated linearly."""
        table = _log_alpha_bar(self, t.device)
        n = widest(t) * self.num_steps
        i = n.long().clamp(0, self.num_steps - 1)
        log_alpha_bar = torch.lerp(table[i], table[i + 1], n - i)
        return (log_alpha_bar - (-torch.expm1(log_alpha_bar)).log()).to(t.dtype)


@lru_cache(maxsize=32)
def _log_alpha_bar(schedule: _Betas, device: torch.device) -> Tensor:
    """``log alpha^2`` after 0, 1, ..., T increments, [T + 1], as exact as the device has them."""
    steps = torch.log1p(-schedule.betas()).cumsum(0)
    return torch.cat([steps.new_zeros(1), steps]).to(device, widest_dtype(device))


def _linspace(start: float, end: float, num: int) -> Tensor:
    # The device is named because a caller may have set another one as the default.
    return torch.linspace(start, end, num, dtype=torch.float64, device="cpu")


@dataclass(frozen=True, kw_only=True)
class Linear(_Betas):
    """Betas in arithmetic progression, 1e-4 to 0.02 over 1000 steps.

    Ho et al., Denoising Diffusion Probabilistic Models, 2020 (arXiv:2006.11239), section 4.

    Arguments:
        beta_start: First noise increment.
        beta_end: Last noise increment.
        num_steps: T, the number of increments; time ``i / T`` holds the first ``i`` of them.
    """

    def betas(self) -> Tensor:
        return _linspace(self.beta_start, self.beta_end, self.num_steps)


@dataclass(frozen=True, kw_only=True)
class Quadratic(_Betas):
    """Betas whose square roots are in arithmetic progression ("scaled linear").

    Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022
    (arXiv:2112.10752). Arguments as for :class:`Linear`.
    """

    def betas(self) -> Tensor:
        return _linspace(sqrt(self.beta_start), sqrt(self.beta_end), self.num_steps).square()


@dataclass(frozen=True, kw_only=True)
class Sigmoid(VariancePreserving):
    """``alpha^2`` falls from 1 to 0 as a logistic curve in time.

    Jabri et al., Scalable Adaptive Computation for Iterative Generation, 2022 (arXiv:2212.11972),
    algorithm 2.

    Arguments:
        start: Where on the logistic curve t = 0 lies.
        end: Where t = 1 lies.
        temperature: The paper's tau; larger is closer to a straight line.
    """

    start: float = -3.0
    end: float = 3.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start >= self.end or self.temperature <= 0:
            raise ValueError(
                "need start < end and temperature > 0, "
                f"got {self.start}, {self.end}, {self.temperature}"
            )

    def unclipped_log_snr(self, t: Tensor) -> Tensor:
        """``sigmoid(u) - sigmoid(v) = sinh((u - v)/2) / (2 cosh(u/2) cosh(v/2))`` cancels nothing.

        The common factor ``1 / (2 cosh(u/2))`` of alpha^2 and sigma^2 drops out of their ratio.
        """
        low, high = self.start / self.temperature, self.end / self.temperature
        span = high - low
        signal = torch.sinh(((1 - t) * span / 2).clamp(min=0)).log() - log(cosh(high / 2))
        noise = torch.sinh(t * span / 2).log() - log(cosh(low / 2))
        return signal - noise


@dataclass(frozen=True, kw_only=True)
class Flow(Schedule):
    """The straight path ``alpha = 1 - t``, ``sigma = t`` of flow matching.

    Lipman et al., Flow Matching for Generative Modeling, 2023 (arXiv:2210.02747); Liu et al.,
    Flow Straight and Fast, 2023 (arXiv:2209.03003).
    """

    def unclipped_log_snr(self, t: Tensor) -> Tensor:
        return 2 * (torch.log1p(-t) - t.log())

    def scales(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """``sigma = sigmoid(-log_snr / 2)``, ``alpha = 1 - sigma``."""
        return torch.sigmoid(log_snr / 2), torch.sigmoid(-log_snr / 2)
