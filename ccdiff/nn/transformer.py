"""The parts of a pixel transformer: attention with rotary positions, gated layers, modulation."""

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from ccdiff.nn.layers import zero_init

__all__ = ["Attention", "Block", "RMSNorm", "SwiGLU", "grid_positions", "sinusoids"]

_EPS = 1e-6


def hidden(in_features: int, out_features: int, *, stacked: int = 1) -> nn.Linear:
    """A linear layer between hidden features, of ``stacked`` equal matrices one above the other.

    How many there are is kept as ``weight.hidden_matrices``, for optimizers that step in
    matrices.
    """
    layer = nn.Linear(in_features, out_features, bias=False)
    for matrix in layer.weight.chunk(stacked):
        nn.init.xavier_uniform_(matrix)
    layer.weight.hidden_matrices = stacked  # type: ignore[attr-defined]
    return layer


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x^2))`` over the last dimension, times a learned scale.

    Zhang & Sennrich, Root Mean Square Layer Normalization, 2019 (arXiv:1910.07467), eq. 4.

    Arguments:
        dim: Size of the last dimension.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] to the same shape."""
        return rms_norm(x, self.scale.shape, eps=_EPS) * self.scale


class SwiGLU(nn.Module):
    """``down(silu(gate(x)) * up(x))``, with two thirds of the width that two layers would have.

    Shazeer, GLU Variants Improve Transformer, 2020 (arXiv:2002.05202), eq. 6.

    Arguments:
        dim: Size of the last dimension.
        ratio: Of the width inside to ``dim``, were there two layers and not three.
    """

    def __init__(self, dim: int, *, ratio: float) -> None:
        super().__init__()
        inner = -(-int(dim * ratio * 2 / 3) // 8) * 8  # A multiple of 8 is multiplied fastest.
        self.gate_up = hidden(dim, 2 * inner, stacked=2)
        self.down = hidden(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] to the same shape."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(silu(gate) * up)


def grid_positions(height: int, width: int, *, like: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each patch of a grid, in reading order, [height * width] each.

    They are where ``like`` is, in its type, or float32 where that is less exact.
    """
    exact = torch.promote_types(like.dtype, torch.float32)
    rows = torch.arange(height, device=like.device, dtype=exact)
    columns = torch.arange(width, device=like.device, dtype=exact)
    return rows.repeat_interleave(width), columns.repeat(height)


def _angles(rows: Tensor, columns: Tensor, dim: int, max_period: float) -> Tensor:
    """Rows, then columns, times ``dim / 2`` falling frequencies each: [N, dim]."""
    half = dim // 2
    frequencies = max_period ** (-torch.arange(half, device=rows.device, dtype=rows.dtype) / half)
    return torch.cat([rows[:, None] * frequencies, columns[:, None] * frequencies], dim=1)


def sinusoids(rows: Tensor, columns: Tensor, dim: int) -> Tensor:
    """Fixed embeddings [N, dim] of positions [N] in a plane; ``dim`` is a multiple of 4.

    Vaswani et al., Attention Is All You Need, 2017 (arXiv:1706.03762), section 3.5, one half for
    each axis.
    """
    angles = _angles(rows, columns, dim // 2, 10_000.0)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def rotation(rows: Tensor, columns: Tensor, dim: int) -> Tensor:
    """By which angle each pair of channels turns at a position: [N, dim / 2], in radians.

    Heo et al., Rotary Position Embedding for Vision Transformer, 2024 (arXiv:2403.13298), eq. 8:
    one half of the pairs for each axis, with periods that suit grids of some ten patches.
    """
    return _angles(rows, columns, dim // 2, 100.0)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the pairs (i, i + dim / 2) of ``x`` [..., N, dim] by angles [N, dim / 2].

    Su et al., RoFormer, 2021 (arXiv:2104.09864), eq. 34: products of two turned vectors depend on
    the difference of their positions alone.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Attention(nn.Module):
    """Every token attends to every token; queries and keys are normalised, then rotated.

    Henry et al., Query-Key Normalization for Transformers, 2020 (arXiv:2010.04245), by root mean
    squares and learned scales, as in Esser et al., 2024 (arXiv:2403.03206), section 5.3.2.

    Arguments:
        dim: Size of a token.
        head_channels: Channels per head, a multiple of 4 that divides ``dim``.
    """

    def __init__(self, dim: int, *, head_channels: int) -> None:
        super().__init__()
        self.heads = dim // head_channels
        self.qkv = hidden(dim, 3 * dim, stacked=3)
        self.query_norm = RMSNorm(head_channels)
        self.key_norm = RMSNorm(head_channels)
        self.out = hidden(dim, dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Tokens [B, N, dim] to the same shape.

        Arguments:
            x: The tokens.
            cos: Of the angle of each pair of channels of a head, [N, head_channels / 2].
            sin: Likewise.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        q = rotate(self.query_norm(q), cos, sin).to(v.dtype)
        k = rotate(self.key_norm(k), cos, sin).to(v.dtype)
        return self.out(attended(q, k, v).transpose(1, 2).flatten(2))


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``softmax(q k^T / sqrt(C)) v`` for queries, keys and values [B, heads, N, C] each."""
    if v.device.type == "cpu" and v.dtype == torch.bfloat16:
        # There torch's fused one takes four to five times as long.
        scores = (q * q.shape[-1] ** -0.5) @ k.mT
        return scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v
    return scaled_dot_product_attention(q, k, v)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Tokens [B, N, dim], normalised, then ``(1 + scale) x + shift`` with [B, 1, dim] each."""
    return rms_norm(x, x.shape[-1:], eps=_EPS) * (1 + scale) + shift


class Block(nn.Module):
    """Attention, then a gated layer; each residual, and the identity at first (adaLN-Zero).

    Peebles & Xie, Scalable Diffusion Models with Transformers, 2023 (arXiv:2212.09748), section
    3.2: shifts, scales and gates of both come from the noise level and the label.

    Arguments:
        dim: Size of a token, and of the embedding.
        head_channels: Channels per head of the attention.
        mlp_ratio: As ``ratio`` of :class:`SwiGLU`.
        dropout: Probability of zeroing an activation at the end of either branch.
    """

    def __init__(self, dim: int, *, head_channels: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.modulation = zero_init(nn.Linear(dim, 6 * dim))
        self.attention = Attention(dim, head_channels=head_channels)
        self.mlp = SwiGLU(dim, ratio=mlp_ratio)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, embedding: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Tokens [B, N, dim] to the same shape.

        Arguments:
            x: The tokens.
            embedding: Of noise level and label, after its activation, [B, dim].
            cos: As for :class:`Attention`.
            sin: Likewise.
        """
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = (
            self.modulation(embedding).unsqueeze(1).chunk(6, dim=-1)
        )
        x = x + gate * self.dropout(self.attention(modulated(x, shift, scale), cos, sin))
        return x + mlp_gate * self.dropout(self.mlp(modulated(x, mlp_shift, mlp_scale)))
