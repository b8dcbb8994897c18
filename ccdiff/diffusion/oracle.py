"""Exact denoisers, ``E[x0 | x_t]`` in closed form: the yardstick of everything numerical.

Each is a :data:`~ccdiff.diffusion.denoiser.Denoise`, so samplers and guidance take it as they
take a model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ccdiff.diffusion.levels import Level

__all__ = ["FiniteOracle", "GaussianOracle"]


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
        """``mean + alpha std^2 / (alpha^2 std^2 + sigma^2) (x_t - alpha mean)``."""
        alpha, sigma = level.scales_like(x_t)
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        return self.mean + gain * (x_t - alpha * self.mean)

    def std_at(self, level: Level) -> Tensor:
        """The standard deviation of ``x_t`` at a scalar level."""
        return (level.alpha**2 * self.std**2 + level.sigma**2).sqrt()

    def posterior_variance(self, level: Level) -> Tensor:
        """``Var[x0 | x_t]`` at a scalar level, the smallest possible squared error on ``x0``."""
        alpha, sigma = level.alpha, level.sigma
        return self.std**2 * sigma**2 / (alpha**2 * self.std**2 + sigma**2)

    def ode_map(self, x_t: Tensor, now: Level, after: Level) -> Tensor:
        """The exact solution of the probability-flow ODE, from ``x_t`` to another scalar level.

        The flow keeps the standardised position ``(x_t - alpha mean) / std_t``.
        """
        centred = x_t - now.alpha * self.mean
        return after.alpha * self.mean + self.std_at(after) / self.std_at(now) * centred


@dataclass(frozen=True, kw_only=True)
class FiniteOracle:
    """The exact denoiser of the uniform mixture of ``N(x_i, std^2)`` over finitely many points.

    Arguments:
        points: The data ``x_i``, [N, ...].
        std: Standard deviation about each point; zero is the points themselves.
    """

    points: Tensor
    std: float = 0.0

    def __call__(self, x_t: Tensor, level: Level) -> Tensor:
        """The points averaged by ``softmax(-|x_t - alpha x_i|^2 / (2 v))``, then each its own.

        ``v = alpha^2 std^2 + sigma^2``; the mean of a Gaussian about a point is as for
        :class:`GaussianOracle`.
        """
        alpha, sigma = (u.reshape(-1, 1).to(x_t.dtype) for u in (level.alpha, level.sigma))
        variance = alpha**2 * self.std**2 + sigma**2
        x, flat = x_t.flatten(1), self.points.flatten(1)
        # |x_t - alpha x_i|^2 without its first term, which is the same for all points.
        logits = (alpha * x @ flat.T - alpha**2 * flat.square().sum(1) / 2) / variance
        mean = torch.softmax(logits, dim=1) @ flat
        gain = alpha * self.std**2 / variance
        return (mean + gain * (x - alpha * mean)).reshape(x_t.shape)
