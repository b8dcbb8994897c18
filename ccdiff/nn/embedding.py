"""The noise level as a vector."""

from math import log, pi

import torch
from torch import Tensor, nn

__all__ = ["NoiseEmbedding", "noise_angle"]


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
    """

    def __init__(self, dim: int, *, out_dim: int, max_period: float = 10_000.0) -> None:
        super().__init__()
        if dim % 2 or dim < 4:
            raise ValueError(f"the number of sinusoids must be even and at least 4, got {dim}")
        self.dim = dim
        self.max_period = max_period
        self.mlp = nn.Sequential(nn.Linear(dim, out_dim), nn.SiLU(), nn.Linear(out_dim, out_dim))

    def forward(self, log_snr: Tensor) -> Tensor:
        """Embedding [B, out_dim] of noise levels ``log_snr`` [B]."""
        return self.mlp(self.sinusoids(log_snr))

    def sinusoids(self, log_snr: Tensor) -> Tensor:
        """Fixed features [B, dim] of noise levels ``log_snr`` [B], before the perceptron."""
        half = self.dim // 2
        weights = next(self.mlp.parameters()).dtype
        # Angles reach 1000, where half precision has steps of half a radian and more.
        exact = torch.promote_types(weights, torch.float32)
        index = torch.arange(half, device=log_snr.device, dtype=exact)
        frequencies = torch.exp(-log(self.max_period) * index / (half - 1))
        angles = noise_angle(log_snr.to(exact)).unsqueeze(1) * frequencies  # [B, half]
        return torch.cat([angles.sin(), angles.cos()], dim=1).to(weights)
