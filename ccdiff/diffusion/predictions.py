r"""What the network predicts, as one affine formula.

``x0_hat = c_skip x_t + c_out F(c_in x_t)``: every parameterization is three coefficients of
``(alpha, sigma)``. The training target is what ``F`` would have to return for ``x0_hat = x0``:
``F* = (x0 - c_skip x_t) / c_out``.

The form is Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022
(arXiv:2206.00364), eq. 7, written for any ``alpha``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

__all__ = ["EDM", "Clean", "Coefficients", "FlowVelocity", "Noise", "Prediction", "Velocity"]


class Coefficients(NamedTuple):
    """The three scales of the affine formula, each with the shape of ``alpha``."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor


@dataclass(frozen=True, kw_only=True)
class Prediction(ABC):
    """The contract: :meth:`coefficients`."""

    @abstractmethod
    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """``(c_skip, c_out, c_in)`` for scales of any one shape; ``c_out`` is never zero."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """``F*``, with the shape of ``x0``; ``alpha`` and ``sigma`` must broadcast to it."""
        c_skip, c_out, _ = self.coefficients(alpha, sigma)
        # Collected by x0 and eps: subtracting c_skip x_t from x0 would lose digits at low noise.
        return (1 - c_skip * alpha) / c_out * x0 - c_skip * sigma / c_out * eps


def _unit_variance(alpha: Tensor, sigma: Tensor) -> Tensor:
    """``c_in`` that gives the network unit-variance input for unit-variance data."""
    return (alpha.square() + sigma.square()).rsqrt()


@dataclass(frozen=True, kw_only=True)
class Noise(Prediction):
    """``F* = eps``. Ho et al., 2020 (arXiv:2006.11239), section 3.2."""

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        return Coefficients(1 / alpha, -sigma / alpha, _unit_variance(alpha, sigma))


@dataclass(frozen=True, kw_only=True)
class Clean(Prediction):
    """``F* = x0``."""

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        return Coefficients(0 * alpha, 0 * alpha + 1, _unit_variance(alpha, sigma))


@dataclass(frozen=True, kw_only=True)
class Velocity(Prediction):
    """``F* = (alpha eps - sigma x0) / n`` with ``n^2 = alpha^2 + sigma^2``.

    Salimans & Ho, Progressive Distillation for Fast Sampling of Diffusion Models, 2022
    (arXiv:2202.00512), section 4, where ``n = 1``.
    """

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        c_in = _unit_variance(alpha, sigma)
        return Coefficients(alpha * c_in.square(), -sigma * c_in, c_in)


@dataclass(frozen=True, kw_only=True)
class FlowVelocity(Prediction):
    """``F* = eps - x0``, the velocity ``dx_t/dt`` of the straight path.

    Lipman et al., 2023 (arXiv:2210.02747), eq. 23, with noise at t = 1.
    """

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        total = alpha + sigma
        return Coefficients(1 / total, -sigma / total, _unit_variance(alpha, sigma))


@dataclass(frozen=True, kw_only=True)
class EDM(Prediction):
    """Karras et al., 2022 (arXiv:2206.00364), table 1, with ``x_t / alpha`` as its noisy image.

    Arguments:
        sigma_data: Standard deviation of the pixels, in the units of [-1, 1].
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if self.sigma_data <= 0:
            raise ValueError(f"sigma_data must be positive, got {self.sigma_data}")

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        variance = alpha.square() * self.sigma_data**2 + sigma.square()
        c_in = variance.rsqrt()
        c_skip = alpha * self.sigma_data**2 / variance
        return Coefficients(c_skip, sigma * self.sigma_data * c_in, c_in)
