"""Exact denoisers, ``E[x0 | x_t]`` in closed form: the yardstick of everything numerical.

Each is a :data:`~ccdiff.diffusion.denoiser.Denoise`, so samplers and guidance take it as they
take a model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import expand_like
from ccdiff.diffusion.schedules import Schedule

__all__ = ["FiniteOracle", "GaussianOracle"]


@dataclass(frozen=True)
class GaussianOracle:
    """The exact denoiser of ``x0 ~ N(mean, std^2)``, elementwise.

    Arguments:
        schedule: Gives the scales at ``t``.
        mean: Mean, broadcastable to the samples.
        std: Standard deviation, broadcastable to the samples; may be zero.
    """

    schedule: Schedule
    mean: Tensor
    std: Tensor

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """``mean + alpha std^2 / (alpha^2 std^2 + sigma^2) (x_t - alpha mean)``."""
        alpha, sigma = (expand_like(f(t), x_t) for f in (self.schedule.alpha, self.schedule.sigma))
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        return self.mean + gain * (x_t - alpha * self.mean)

    def posterior_variance(self, t: Tensor) -> Tensor:
        """``Var[x0 | x_t]`` at a scalar ``t``, the smallest possible squared error on ``x0``."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return self.std**2 * sigma**2 / (alpha**2 * self.std**2 + sigma**2)

    def ode_map(self, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The exact solution at ``s`` of the probability-flow ODE from ``x_t`` at ``t``, scalars.

        The flow keeps the standardised position ``(x_t - alpha mean) / std_t``.
        """
        std_t, std_s = (
            (self.schedule.alpha(u) ** 2 * self.std**2 + self.schedule.sigma(u) ** 2).sqrt()
            for u in (t, s)
        )
        centred = x_t - self.schedule.alpha(t) * self.mean
        return self.schedule.alpha(s) * self.mean + std_s / std_t * centred


@dataclass(frozen=True)
class FiniteOracle:
    """The exact denoiser of the uniform mixture of ``N(x_i, std^2)`` over finitely many points.

    Arguments:
        schedule: Gives the scales at ``t``.
        points: The data ``x_i``, [N, ...].
        std: Standard deviation about each point; zero is the points themselves.
    """

    schedule: Schedule
    points: Tensor
    std: float = 0.0

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The points averaged by ``softmax(-|x_t - alpha x_i|^2 / (2 v))``, then each its own.

        ``v = alpha^2 std^2 + sigma^2``; the mean of a Gaussian about a point is as for
        :class:`GaussianOracle`.
        """
        alpha, sigma = (
            f(t).reshape(-1, 1).to(x_t.dtype) for f in (self.schedule.alpha, self.schedule.sigma)
        )
        variance = alpha**2 * self.std**2 + sigma**2
        x, flat = x_t.flatten(1), self.points.flatten(1)
        # |x_t - alpha x_i|^2 without its first term, which is the same for all points.
        logits = (alpha * x @ flat.T - alpha**2 * flat.square().sum(1) / 2) / variance
        mean = torch.softmax(logits, dim=1) @ flat
        gain = alpha * self.std**2 / variance
        return (mean + gain * (x - alpha * mean)).reshape(x_t.shape)
