"""Keeping ``x0_hat`` in the range of images: a map from one :data:`Denoise` to another.

A network that predicts the noise errs in ``x0_hat`` by its own error times ``sigma / alpha``,
which at high noise is far out of range; so does guidance. Clean images lie in [-1, 1], hence so
does their mean: projecting onto that range can only help.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.levels import Level, expand_like

__all__ = ["Clip", "Dynamic", "Threshold", "Unlimited"]


@dataclass(frozen=True, kw_only=True)
class Threshold(ABC):
    """The contract: :meth:`limit`."""

    @abstractmethod
    def limit(self, x0_hat: Tensor) -> Tensor:
        """``x0_hat`` [B, ...] brought into range."""

    def __call__(self, denoise: Denoise) -> Denoise:
        """The :data:`Denoise` whose estimates are those of ``denoise``, limited."""

        def limited(x_t: Tensor, level: Level) -> Tensor:
            return self.limit(denoise(x_t, level))

        return limited


@dataclass(frozen=True, kw_only=True)
class Unlimited(Threshold):
    """Leaves ``x0_hat`` as it is."""

    def limit(self, x0_hat: Tensor) -> Tensor:
        return x0_hat


@dataclass(frozen=True, kw_only=True)
class Clip(Threshold):
    """Clips ``x0_hat`` to [-1, 1]."""

    def limit(self, x0_hat: Tensor) -> Tensor:
        return x0_hat.clamp(-1, 1)


@dataclass(frozen=True, kw_only=True)
class Dynamic(Threshold):
    """Clips to [-s, s] and divides by ``s``, a high quantile of ``|x0_hat|`` in each sample.

    Saharia et al., Photorealistic Text-to-Image Diffusion Models with Deep Language
    Understanding, 2022 (arXiv:2205.11487), section 2.3. Where ``s < 1`` nothing is changed.

    Arguments:
        quantile: Share of the pixels that is not clipped, in (0, 1].
    """

    quantile: float = 0.995

    def __post_init__(self) -> None:
        if not 0 < self.quantile <= 1:
            raise ValueError(f"threshold.quantile must be in (0, 1], got {self.quantile}")

    def limit(self, x0_hat: Tensor) -> Tensor:
        sizes = x0_hat.flatten(1).abs()
        s = expand_like(sizes.float().quantile(self.quantile, dim=1).clamp(min=1), x0_hat)
        s = s.to(x0_hat.dtype)
        return x0_hat.clamp(-s, s) / s
