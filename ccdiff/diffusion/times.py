"""Where training looks: densities over time ``t`` in [0, 1]."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LogitNormal", "Stratified", "TimeDensity", "UniformTimes"]


@dataclass(frozen=True, kw_only=True)
class TimeDensity(ABC):
    """The contract: draw ``n`` times with a given generator."""

    @abstractmethod
    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` times in [0, 1], float32 [n], on the device of ``generator``."""


@dataclass(frozen=True, kw_only=True)
class UniformTimes(TimeDensity):
    """Independent uniform times: Ho et al., 2020 (arXiv:2006.11239), algorithm 1."""

    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.rand(n, generator=generator, device=generator.device)


@dataclass(frozen=True, kw_only=True)
class Stratified(TimeDensity):
    """One uniform time in each of ``n`` equal cells: same density, less variance in a batch."""

    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        jitter = torch.rand(n, generator=generator, device=generator.device)
        return (torch.arange(n, device=generator.device) + jitter) / n


@dataclass(frozen=True, kw_only=True)
class LogitNormal(TimeDensity):
    """``logit(t)`` is normal, so the middle of the path is seen most.

    Esser et al., Scaling Rectified Flow Transformers for High-Resolution Image Synthesis, 2024
    (arXiv:2403.03206), eq. 19. Under the flow schedule ``logit(t) = log(sigma / alpha)``, so this
    is also EDM's log-normal density of noise levels (mean -1.2, std 1.2).

    Arguments:
        mean: Mean of ``logit(t)``.
        std: Standard deviation of ``logit(t)``.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"std must be positive, got {self.std}")

    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        normal = torch.randn(n, generator=generator, device=generator.device)
        return torch.sigmoid(self.mean + self.std * normal)
