"""A noise level: how much signal and how much noise an image holds at one time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from ccdiff.diffusion.schedules import Schedule

__all__ = ["Level", "Reach", "expand_like", "straight_step"]


class Reach(Enum):
    """How far a step may go by one estimate, which a network must have been trained for.

    Every estimate ``x0_hat`` of ``x_t`` names a straight step, to
    ``x_s = alpha_s x0_hat + sigma_s (x_t - alpha_t x0_hat) / sigma_t``, which is that of DDIM.
    """

    HERE = "here"
    """Infinitely short steps: ``x0_hat`` is the mean ``E[x0 | x_t]``, and gives the direction."""
    ANYWHERE = "anywhere"
    """Steps to any cleaner level that is named (:attr:`Level.toward`): they end on the ODE."""
    HALVES = "halves"
    """Steps of uniform grids of 1, 2, 4, ... steps, each half as long as one before."""
    END = "end"
    """The one step to the clean image, where the ODE ends."""


def expand_like(scale: Tensor, x: Tensor) -> Tensor:
    """Views a per-sample ``scale``, scalar or [B], so that it broadcasts over ``x`` [B, ...].

    Raises:
        ValueError: Where ``scale`` is neither.
    """
    if scale.ndim == 0:
        return scale
    if scale.ndim != 1 or scale.shape[0] != x.shape[0]:
        raise ValueError(f"expected a scalar or [{len(x)}], got shape {tuple(scale.shape)}")
    return scale.reshape(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True, eq=False, kw_only=True)
class Level:
    """How much noise an image holds: ``x_t = alpha x0 + sigma eps``, worked out once.

    All that samplers, denoisers and oracles know of a schedule. Made by ``Schedule.at`` and
    ``Schedule.at_log_snr``. Samplers hold levels as scalars of the CPU, where they cost a GPU
    no kernel launch and no wait; in training they are one value per sample, [B].

    Arguments:
        log_snr: ``log(alpha^2 / sigma^2)``.
        alpha: Signal scale in (0, 1), with the shape of ``log_snr``.
        sigma: Noise scale in (0, 1), with the shape of ``log_snr``.
        schedule: Whose level it is.
        time: Where on the schedule, if that is known; :attr:`t` finds it.
        toward: The level to which an estimate from here shall lead in one straight step; None is
            the estimate of the level itself, by which an infinitely short step goes.
    """

    log_snr: Tensor
    alpha: Tensor
    sigma: Tensor
    schedule: Schedule
    time: Tensor | None = field(default=None, repr=False)
    toward: Level | None = field(default=None, repr=False)

    @cached_property
    def t(self) -> Tensor:
        """The time in [0, 1], with the shape of ``log_snr``."""
        return self.schedule.time(self.log_snr) if self.time is None else self.time

    @property
    def ratio(self) -> Tensor:
        """``sigma / alpha``, the noise level of a variance-exploding process."""
        return (-self.log_snr / 2).exp()

    @property
    def tau(self) -> Tensor:
        """The time in (0, 1) of the straight path ``x_t / (alpha + sigma)``, as of flows."""
        return self.sigma / (self.alpha + self.sigma)

    @property
    def std(self) -> Tensor:
        """Standard deviation of ``x_t`` for data of unit variance."""
        return (self.alpha.square() + self.sigma.square()).sqrt()

    def scales_like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``alpha`` and ``sigma``, viewed so that they broadcast over ``x`` [B, ...]."""
        return expand_like(self.alpha, x), expand_like(self.sigma, x)

    def leading_to(self, after: Level) -> Level:
        """The same, for an estimate by which one straight step leads to ``after``."""
        return replace(self, toward=after)

    def repeat(self, n: int) -> Level:
        """The levels of a batch that is ``n`` copies of this one, [n B]; a scalar stays one."""
        if self.log_snr.ndim == 0:
            return self
        return replace(
            self,
            log_snr=self.log_snr.repeat(n),
            alpha=self.alpha.repeat(n),
            sigma=self.sigma.repeat(n),
            time=None if self.time is None else self.time.repeat(n),
            toward=None if self.toward is None else self.toward.repeat(n),
        )


def straight_step(x0_hat: Tensor, x_t: Tensor, now: Level, after: Level) -> Tensor:
    """Where the straight step by an estimate leads: that of DDIM, see :class:`Reach`.

    Arguments:
        x0_hat: The estimate, [B, ...].
        x_t: Where it was made, [B, ...].
        now: The level of ``x_t``, a scalar or [B].
        after: The level to go to, likewise.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = now.scales_like(x_t), after.scales_like(x_t)
    return alpha_s * x0_hat + sigma_s * (x_t - alpha_t * x0_hat) / sigma_t
