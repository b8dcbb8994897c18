r"""Bits per dimension of images by the probability-flow ODE.

In ``y = x_t / alpha`` and ``u = log(sigma / alpha) = -log_snr / 2`` the probability-flow ODE
(Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021,
arXiv:2011.13456, eq. 13) is ``dy/du = y - x0_hat``, whatever the schedule, and the density along
it changes by ``d log p / du = tr(d x0_hat / dy) - D`` for images of ``D`` numbers. So

``log p(y at the clean end) = log p(y at the noisy end) + \int (D - tr(d x0_hat / dy)) du``

with ``y ~ N(0, 1 + e^{2u})`` at the noisy end, where samplers start. The trace is estimated by
random signs ``v`` as ``v^T (d x0_hat / dy) v`` (Hutchinson, 1989; Grathwohl et al., FFJORD, 2019,
arXiv:1810.01367), exact in expectation.

Images are whole numbers, a model's density is over continuous ones. Each pixel is spread uniformly
over its own step of ``1/127.5``; by Jensen's inequality (Theis et al., A Note on the Evaluation of
Generative Models, 2016, arXiv:1511.01844, section 3.1) the figure is then an upper bound on the
bits that a code of the model needs for the 8-bit image, per pixel and channel.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.schedules import Schedule

__all__ = ["bits_per_dimension", "dequantise", "log_density"]

_LEVELS_PER_UNIT = 127.5
"""8-bit steps in a distance of 1 in [-1, 1]."""

Derivative = Callable[[Tensor, float], tuple[Tensor, Tensor]]


def dequantise(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 images to [-1, 1], each number moved by up to half a step to either side, float64."""
    moved = torch.rand(images.shape, generator=generator, dtype=torch.float64)
    return (images.double() + moved - 0.5) / _LEVELS_PER_UNIT - 1


def log_density(
    denoise: Denoise,
    schedule: Schedule,
    x0: Tensor,
    *,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """The natural logarithm of the model's density at each of ``x0``, float64 [B].

    Four network calls with their gradients per step: the classical Runge-Kutta method of order 4,
    evenly spaced in log-SNR over the whole range of the schedule.

    Arguments:
        denoise: Deterministic, such as a model with its label bound, or an oracle.
        schedule: The schedule to integrate over.
        x0: Continuous images [B, ...].
        steps: Number of steps.
        generator: Of the random signs; on the CPU.
    """
    signs = torch.randint(2, x0.shape, generator=generator).to(x0.device).double() * 2 - 1
    derivative = _derivative(denoise, schedule, signs)
    ends = schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64))
    low, high = (-ends / 2).tolist()
    h = (high - low) / steps
    y = x0.double()
    change = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    for i in range(steps):
        u = low + i * h
        move_1, grow_1 = derivative(y, u)
        move_2, grow_2 = derivative(y + h / 2 * move_1, u + h / 2)
        move_3, grow_3 = derivative(y + h / 2 * move_2, u + h / 2)
        move_4, grow_4 = derivative(y + h * move_3, u + h)
        y = y + h / 6 * (move_1 + 2 * move_2 + 2 * move_3 + move_4)
        change += h / 6 * (grow_1 + 2 * grow_2 + 2 * grow_3 + grow_4)
    variance = 1 + math.exp(2 * high)
    d = y[0].numel()
    at_noise = (
        -(y.flatten(1).square().sum(1) / variance + d * math.log(2 * math.pi * variance)) / 2
    )
    return at_noise + change


def _derivative(denoise: Denoise, schedule: Schedule, signs: Tensor) -> Derivative:
    """``(y, u) -> dy/du`` and the rate at which volume grows, ``D - v^T (d x0_hat / dy) v``."""

    def derivative(y: Tensor, u: float) -> tuple[Tensor, Tensor]:
        level = schedule.at_log_snr(torch.tensor(-2 * u, dtype=torch.float64))
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            x0_hat = denoise((level.alpha * y).float(), level).double()
            (pulled,) = torch.autograd.grad((x0_hat * signs).sum(), y)
        growth = (1 - pulled * signs).flatten(1).sum(1)
        return (y - x0_hat).detach(), growth

    return derivative


def bits_per_dimension(log_densities: Tensor, *, num_pixels: int) -> Tensor:
    """Upper bounds on the bits for each number of an 8-bit image, [B].

    Arguments:
        log_densities: Natural logarithms, at images in [-1, 1], [B].
        num_pixels: Numbers in an image, C H W.
    """
    return math.log2(_LEVELS_PER_UNIT) - log_densities / (num_pixels * math.log(2))
