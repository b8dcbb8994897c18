"""Exact denoisers, ``E[x0 | x_t]`` in closed form: the yardstick of everything numerical.

Each is a :data:`~ccdiff.diffusion.denoiser.Denoise`, so samplers and guidance take it as they
take a model.
"""

from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.samplers.core import integrate
from ccdiff.diffusion.samplers.multistep import UniPC
from ccdiff.diffusion.samplers.noise import GivenNoise

__all__ = ["FiniteOracle", "GaussianOracle", "LabelledOracle", "secant"]

_STEPS = 200
"""Of third order, to follow an ODE that has no closed form."""


@dataclass(frozen=True, kw_only=True)
class GaussianOracle:
    """The exact denoiser of ``x0 ~ N(mean, std^2)``, elementwise.

    Arguments:
        mean: Mean, broadcastable to the samples.
        std: Standard deviation, broadcastable to the samples; may be zero.
    """

    mean: Tensor
    std: Tensor

    def __call__(self, x_t: Tensor, level: Level) -> Tensor:
        """``mean + alpha std^2 / (alpha^2 std^2 + sigma^2) (x_t - alpha mean)``.

        With ``level.toward``, the estimate by which a straight step ends on the ODE.
        """
        if level.toward is not None and (level.toward.log_snr != level.log_snr).all():
            return secant(x_t, self.ode_map(x_t, level, level.toward), level, level.toward)
        alpha, sigma = level.scales_like(x_t)
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        return self.mean + gain * (x_t - alpha * self.mean)

    def std_at(self, level: Level) -> Tensor:
        """The standard deviation of ``x_t`` at a scalar level."""
        return self._std(level.alpha, level.sigma)

    def _std(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (alpha**2 * self.std**2 + sigma**2).sqrt()

    def posterior_variance(self, level: Level) -> Tensor:
        """``Var[x0 | x_t]`` at a scalar level, the smallest possible squared error on ``x0``."""
        alpha, sigma = level.alpha, level.sigma
        return self.std**2 * sigma**2 / (alpha**2 * self.std**2 + sigma**2)

    def ode_map(self, x_t: Tensor, now: Level, after: Level) -> Tensor:
        """The exact solution of the probability-flow ODE, from ``x_t`` to another level.

        The flow keeps the standardised position ``(x_t - alpha mean) / std_t``.
        """
        here, there = now.scales_like(x_t), after.scales_like(x_t)
        centred = x_t - here[0] * self.mean
        return there[0] * self.mean + self._std(*there) / self._std(*here) * centred


@dataclass(frozen=True, kw_only=True)
class FiniteOracle:
    """The exact denoiser of the uniform mixture of ``N(x_i, std^2)`` over finitely many points.

    Arguments:
        points: The data ``x_i``, [N, ...].
        std: Standard deviation about each point; zero is the points themselves.
        among: Of which points each sample may be, bool [B, N]; None is all.
    """

    points: Tensor
    std: float = 0.0
    among: Tensor | None = None

    def __call__(self, x_t: Tensor, level: Level) -> Tensor:
        """The points averaged by ``softmax(-|x_t - alpha x_i|^2 / (2 v))``, then each its own.

        ``v = alpha^2 std^2 + sigma^2``; the mean of a Gaussian about a point is as for
        :class:`GaussianOracle`. With ``level.toward``, the estimate by which a straight step ends
        on the ODE, whose solution is found by many steps, as it has no closed form.
        """
        if level.toward is not None:
            return secant(x_t, self.ode_map(x_t, level, level.toward), level, level.toward)
        alpha, sigma = (u.reshape(-1, 1).to(x_t.dtype) for u in (level.alpha, level.sigma))
        variance = alpha**2 * self.std**2 + sigma**2
        x, flat = x_t.flatten(1), self.points.flatten(1)
        # |x_t - alpha x_i|^2 without its first term, which is the same for all points.
        logits = (alpha * x @ flat.T - alpha**2 * flat.square().sum(1) / 2) / variance
        if self.among is not None:
            logits = logits.masked_fill(~self.among, -torch.inf)
        mean = torch.softmax(logits, dim=1) @ flat
        gain = alpha * self.std**2 / variance
        return (mean + gain * (x - alpha * mean)).reshape(x_t.shape)

    def ode_map(self, x_t: Tensor, now: Level, after: Level) -> Tensor:
        """The probability-flow ODE solved from ``x_t`` at a scalar level to another."""
        ends = now.log_snr.double().item(), after.log_snr.double().item()
        levels = torch.linspace(*ends, _STEPS + 1, dtype=torch.float64)
        times = now.schedule.time(levels)
        return integrate(UniPC(steps=_STEPS), self, now.schedule, x_t, times, GivenNoise())


@dataclass(frozen=True, kw_only=True)
class LabelledOracle:
    """The exact denoiser of classes, each the uniform mixture of ``N(x_i, std^2)`` of its points.

    Called as a :class:`~ccdiff.diffusion.denoiser.Denoiser` is. All points are as likely, so a
    class is the more frequent the more it has.

    Arguments:
        points: The points ``x_i`` of all classes, [N, ...].
        labels: The class of each point, int64 [N], from 0 to K - 1.
        std: Standard deviation about each point, positive.
    """

    points: Tensor
    labels: Tensor
    std: float

    def __call__(self, x_t: Tensor, level: Level, y: Tensor, drop: Tensor | None = None) -> Tensor:
        """``E[x0 | x_t, y]``, or ``E[x0 | x_t]`` where the label is hidden, [B, ...].

        Arguments:
            x_t: Noisy samples [B, ...].
            level: Their noise level, [B] or one for all.
            y: Classes [B].
            drop: Labels to hide, bool [B].
        """
        return self.bound(y, drop, like=x_t)(x_t, level)

    def bound(self, y: Tensor, drop: Tensor | None = None, *, like: Tensor) -> FiniteOracle:
        """The oracle of a batch with classes ``y`` [B]; points as ``like`` has its numbers."""
        among = self.labels.to(y.device) == y.unsqueeze(1)
        if drop is not None:
            among = among | drop.unsqueeze(1)
        return FiniteOracle(points=self.points.to(like), std=self.std, among=among.to(like.device))

    def log_density(self, x0: Tensor) -> Tensor:
        """``log p(x0, y)`` of all classes, float64 [B, K], for clean samples [B, ...].

        Its ``logsumexp`` over classes is ``log p(x0)``, and its softmax ``p(y | x0)``.
        """
        x, points = x0.double().flatten(1), self.points.double().flatten(1).to(x0.device)
        logs = -torch.cdist(x, points).square() / (2 * self.std**2)
        norm = x.shape[1] * log(self.std * (2 * pi) ** 0.5) + log(len(points))
        labels = self.labels.to(x0.device)
        classes = range(int(self.labels.max()) + 1)
        return torch.stack([logs[:, labels == k].logsumexp(1) for k in classes], dim=1) - norm

    def log_given(self, x0: Tensor, y: Tensor) -> Tensor:
        """``log p(x0 | y)`` of clean samples [B, ...] and classes [B], float64 [B]."""
        share = self.labels.bincount().double().div(len(self.labels)).log().to(y.device)
        return self.log_density(x0).gather(1, y.unsqueeze(1)).squeeze(1) - share[y]


def secant(x_t: Tensor, x_s: Tensor, now: Level, after: Level) -> Tensor:
    """The ``x0_hat`` by which the straight step from ``x_t`` at ``now`` leads to ``x_s``.

    Solves ``x_s = alpha_s x0_hat + sigma_s (x_t - alpha_t x0_hat) / sigma_t``.

    Arguments:
        x_t: Samples [B, ...].
        x_s: Where from each one the step shall end, [B, ...].
        now: Level of ``x_t``.
        after: Level of ``x_s``, another one.
    """
    alpha_t, sigma_t = now.scales_like(x_t)
    alpha_s, sigma_s = after.scales_like(x_t)
    return (sigma_t * x_s - sigma_s * x_t) / (sigma_t * alpha_s - sigma_s * alpha_t)
