"""The noise level as a vector."""

from math import log, pi

import torch
from torch import Tensor, nn

from ccdiff.nn.layers import zero_init

__all__ = ["IntervalEmbedding", "NoiseEmbedding", "noise_angle"]


def noise_angle(log_snr: Tensor) -> Tensor:
    """``2000 / pi * atan(sigma / alpha)``: a fixed monotone map of the noise level onto [0, 1000].

    It depends on the noise level alone, not on the schedule, so a trained network can be sampled
    under another one. Under the cosine schedule it is Ho et al.'s step number, up to the offset.
    """
    return 2000 / pi * torch.atan(torch.exp(-log_snr / 2))


class NoiseEmbedding(nn.Module):
    """Sinusoids of the noise angle, then a two-layer perceptron.

    Vaswani et al., Attention Is All You Need, 2017 (arXiv:1706.03762), section 3.5; applied to
    noise levels by Ho et al., 2020 (arXiv:2006.11239), appendix B.

    Arguments:
        dim: Number of sinusoids, even.
        out_dim: Width of the embedding.
        max_period: Longest wavelength over 2 pi, in units of the angle.
        span: What the angle runs over, from no noise to noise alone. The quickest sinusoid turns
            once in 2 pi of it, so that 1000 tells levels apart that are close, and 10 has the
            network change slowly from level to level.

    Raises:
        ValueError: Where the number of sinusoids or the span will not do.
    """

    def __init__(
        self, dim: int, *, out_dim: int, max_period: float = 10_000.0, span: float = 1000.0
    ) -> None:
        super().__init__()
        if span <= 0:
            raise ValueError(f"model.noise_span must be positive, got {span}")
        if dim % 2 or dim < 4:
            raise ValueError(f"the number of sinusoids must be even and at least 4, got {dim}")
        self.dim = dim
        self.max_period = max_period
        self.share = span / 1000
        self.mlp = nn.Sequential(nn.Linear(dim, out_dim), nn.SiLU(), nn.Linear(out_dim, out_dim))

    def forward(self, log_snr: Tensor) -> Tensor:
        """Embedding [B, out_dim] of noise levels ``log_snr`` [B]."""
        return self.mlp(self.sinusoids(log_snr))

    def sinusoids(self, log_snr: Tensor) -> Tensor:
        """Fixed features [B, dim] of noise levels ``log_snr`` [B], before the perceptron."""
        return self.features(self.angle(log_snr))

    def angle(self, log_snr: Tensor) -> Tensor:
        """The noise angle [B], in single precision at least."""
        # Angles reach 1000, where half precision has steps of half a radian and more.
        exact = torch.promote_types(next(self.mlp.parameters()).dtype, torch.float32)
        return noise_angle(log_snr.to(exact))

    def features(self, angle: Tensor) -> Tensor:
        """Sinusoids [B, dim] of angles [B], as :meth:`angle` gives them."""
        half = self.dim // 2
        index = torch.arange(half, device=angle.device, dtype=angle.dtype)
        frequencies = torch.exp(-log(self.max_period) * index / (half - 1))
        angle = angle if self.share == 1 else self.share * angle
        angles = angle.unsqueeze(1) * frequencies  # [B, half]
        weights = next(self.mlp.parameters()).dtype
        return torch.cat([angles.sin(), angles.cos()], dim=1).to(weights)


class IntervalEmbedding(nn.Module):
    """How far a step shall lead: the difference of two noise angles, embedded as one of them is.

    The length ``t - r`` beside ``t`` is what Geng et al., 2025 (arXiv:2505.13447), table 1c, found
    best. Its last layer starts at zero, so that a network begins as one that is not told.

    Arguments:
        dim: Number of sinusoids, even.
        out_dim: Width of the embedding.
        span: As of :class:`NoiseEmbedding`.
    """

    def __init__(self, dim: int, *, out_dim: int, span: float) -> None:
        super().__init__()
        self.embed = NoiseEmbedding(dim, out_dim=out_dim, span=span)
        last = self.embed.mlp[-1]
        assert isinstance(last, nn.Linear)
        zero_init(last)

    def forward(self, log_snr: Tensor, toward: Tensor) -> Tensor:
        """Embedding [B, out_dim] of steps from ``log_snr`` [B] to ``toward`` [B]."""
        length = self.embed.angle(log_snr) - self.embed.angle(toward)
        return self.embed.mlp(self.embed.features(length))
