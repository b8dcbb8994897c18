"""How much each noise level counts in the loss: always a weight on the squared ``x0`` error.

The loss of any prediction is ``w(log_snr) |x0_hat - x0|^2``. Ho et al.'s L_simple, the plain
squared error on ``eps``, is the weight ``exp(log_snr)``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SNR", "EDMWeighting", "FlowWeighting", "MinSNR", "Uniform", "Weighting"]


@dataclass(frozen=True, kw_only=True)
class Weighting(ABC):
    """The contract: a weight for each noise level."""

    @abstractmethod
    def __call__(self, log_snr: Tensor) -> Tensor:
        """Non-negative weights with the shape of ``log_snr``."""


@dataclass(frozen=True, kw_only=True)
class SNR(Weighting):
    """``w = snr``, which is L_simple: Ho et al., 2020 (arXiv:2006.11239), eq. 14."""

    def __call__(self, log_snr: Tensor) -> Tensor:
        return log_snr.exp()


@dataclass(frozen=True, kw_only=True)
class MinSNR(Weighting):
    """``w = min(snr, gamma)``.

    Hang et al., Efficient Diffusion Training via Min-SNR Weighting Strategy, 2023
    (arXiv:2303.09556), eq. 7.

    Arguments:
        gamma: The signal-to-noise ratio above which the weight stops growing.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if self.gamma <= 0:
            raise ValueError(f"gamma must be positive, got {self.gamma}")

    def __call__(self, log_snr: Tensor) -> Tensor:
        return log_snr.exp().clamp(max=self.gamma)


@dataclass(frozen=True, kw_only=True)
class Uniform(Weighting):
    """``w = 1``: plain squared error on ``x0``."""

    def __call__(self, log_snr: Tensor) -> Tensor:
        return torch.ones_like(log_snr)


@dataclass(frozen=True, kw_only=True)
class EDMWeighting(Weighting):
    """``w = snr + 1 / sigma_data^2``, which makes ``w c_out^2 = 1`` for the EDM prediction.

    Karras et al., 2022 (arXiv:2206.00364), table 1: ``(sigma^2 + sigma_data^2) / (sigma
    sigma_data)^2`` with ``sigma^2 = 1 / snr``.

    Arguments:
        sigma_data: Standard deviation of the pixels, in the units of [-1, 1].
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if self.sigma_data <= 0:
            raise ValueError(f"sigma_data must be positive, got {self.sigma_data}")

    def __call__(self, log_snr: Tensor) -> Tensor:
        return log_snr.exp() + self.sigma_data**-2


@dataclass(frozen=True, kw_only=True)
class FlowWeighting(Weighting):
    """``w = (1 + sqrt(snr))^2``: plain squared error on the flow velocity ``eps - x0``.

    Lipman et al., Flow Matching for Generative Modeling, 2023 (arXiv:2210.02747), eq. 23.
    """

    def __call__(self, log_snr: Tensor) -> Tensor:
        return (1 + (log_snr / 2).exp()).square()
