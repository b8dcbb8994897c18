r"""Bits per dimension of images by the probability-flow ODE.

In ``y = x_t / alpha`` and ``u = log(sigma / alpha) = -log_snr / 2`` the probability-flow ODE
(Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021,
arXiv:2011.13456, eq. 13) is ``dy/du = y - x0_hat``, whatever the schedule. It is integrated for
``z = y / r`` with ``r^2 = 1 + e^{2u}``, which keeps its size on the way to the noise where ``y``
grows by thousands, so that steps may be long:

``dz/du = z / r^2 - x0_hat / r``, ``d log p(z) / du = tr(d x0_hat / dy) - D / r^2``

for images of ``D`` numbers, with ``z ~ N(0, 1)`` at the noisy end, where samplers start. The
trace is estimated by random signs ``v`` as ``v^T (d x0_hat / dy) v`` (Hutchinson, 1989; Grathwohl
et al., FFJORD, 2019, arXiv:1810.01367), exact in expectation.

Images are whole numbers, a model's density is over continuous ones. Each pixel is spread uniformly
over its own step of ``1/127.5``; by Jensen's inequality (Theis et al., A Note on the Evaluation of
Generative Models, 2016, arXiv:1511.01844, section 3.1) the figure is then an upper bound on the
bits that a code of the model needs for the 8-bit image, per pixel and channel.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.schedules import Schedule

__all__ = ["Likelihood", "LogDensity", "bits_per_dimension", "dequantise", "log_density"]

_LEVELS_PER_UNIT = 127.5
"""8-bit steps in a distance of 1 in [-1, 1]."""

Derivative = Callable[[Tensor, float], tuple[Tensor, Tensor]]


def dequantise(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 images to [-1, 1], each number moved by up to half a step to either side, float64."""
    moved = torch.rand(images.shape, generator=generator, dtype=torch.float64)
    return (images.double() + moved - 0.5) / _LEVELS_PER_UNIT - 1


class LogDensity(NamedTuple):
    """Natural logarithms of densities, float64 [B].

    Arguments:
        value: The logarithms.
        error: How much the last refinement of the integration changed them; what remains of its
            error is smaller by far where the solution is smooth.
    """

    value: Tensor
    error: Tensor


class Likelihood(NamedTuple):
    """How well a model foresees held-out images, as a figure.

    Arguments:
        name: ``bits_per_dimension`` of images, ``nats_per_point`` of points of the plane.
        values: Of each image, float64 [M].
        error: What the integration leaves of error in their mean, about.
        exact: The mean that the exact density has at the same points; None where it is unknown.
    """

    name: str
    values: Tensor
    error: float
    exact: float | None = None


def log_density(
    denoise: Denoise,
    schedule: Schedule,
    x0: Tensor,
    *,
    steps: int,
    generator: torch.Generator,
) -> LogDensity:
    """The natural logarithm of the model's density at each of ``x0``.

    The classical Runge-Kutta method of order 4, evenly spaced in log-SNR over the whole range of
    the schedule, with ``steps`` steps and with half as many, and what both tell of the limit
    (Richardson, 1911): six network calls with their gradients per step.

    Arguments:
        denoise: Deterministic, such as a model with its label bound, or an oracle.
        schedule: The schedule to integrate over.
        x0: Continuous images [B, ...].
        steps: Number of steps, at least 2.
        generator: Draws the random signs; on the CPU.

    Raises:
        ValueError: Where there are too few steps.
    """
    if steps < 2:
        raise ValueError(f"the integration of a likelihood needs at least 2 steps, got {steps}")
    signs = torch.randint(2, x0.shape, generator=generator).to(x0.device).double() * 2 - 1
    derivative = _derivative(denoise, schedule, signs)
    coarse_steps = steps // 2
    fine, coarse = (_integral(derivative, schedule, x0, n) for n in (steps, coarse_steps))
    # An error of order 4 shrinks by this factor from one to the other.
    change = (fine - coarse) / ((steps / coarse_steps) ** 4 - 1)
    return LogDensity(fine + change, change.abs())


def _integral(derivative: Derivative, schedule: Schedule, x0: Tensor, steps: int) -> Tensor:
    """The logarithm of the density [B] by so many steps."""
    ends = schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64))
    low, high = (-ends / 2).tolist()
    h = (high - low) / steps
    scale = math.hypot(1, math.exp(low))
    z, d = x0.double() / scale, x0[0].numel()
    log_p = torch.full((len(z),), -d * math.log(scale), dtype=torch.float64, device=z.device)
    for i in range(steps):
        u = low + i * h
        move_1, grow_1 = derivative(z, u)
        move_2, grow_2 = derivative(z + h / 2 * move_1, u + h / 2)
        move_3, grow_3 = derivative(z + h / 2 * move_2, u + h / 2)
        move_4, grow_4 = derivative(z + h * move_3, u + h)
        z = z + h / 6 * (move_1 + 2 * move_2 + 2 * move_3 + move_4)
        log_p += h / 6 * (grow_1 + 2 * grow_2 + 2 * grow_3 + grow_4)
    return log_p - (z.flatten(1).square().sum(1) + d * math.log(2 * math.pi)) / 2


def _derivative(denoise: Denoise, schedule: Schedule, signs: Tensor) -> Derivative:
    """``(z, u) -> dz/du`` and the growth of volume, ``D / r^2 - v^T (d x0_hat / dy) v``."""

    def derivative(z: Tensor, u: float) -> tuple[Tensor, Tensor]:
        level = schedule.at_log_snr(torch.tensor(-2 * u, dtype=torch.float64))
        r = math.hypot(1, math.exp(u))
        with torch.enable_grad():
            y = (r * z).detach().requires_grad_()
            x0_hat = denoise((level.alpha * y).float(), level).double()
            (pulled,) = torch.autograd.grad((x0_hat * signs).sum(), y)
        growth = (1 / r**2 - pulled * signs).flatten(1).sum(1)
        return z / r**2 - x0_hat.detach() / r, growth

    return derivative


def bits_per_dimension(log_densities: Tensor, *, num_pixels: int) -> Tensor:
    """Upper bounds on the bits for each number of an 8-bit image, [B].

    Arguments:
        log_densities: Natural logarithms, at images in [-1, 1], [B].
        num_pixels: Numbers in an image, C H W.
    """
    return math.log2(_LEVELS_PER_UNIT) - log_densities / (num_pixels * math.log(2))
