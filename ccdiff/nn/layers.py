"""The parts of a U-Net: residual blocks with FiLM, and changes of resolution."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.functional import interpolate, silu

__all__ = ["Downsample", "FiLM", "GroupNorm", "Modulation", "ResidualBlock", "Upsample"]

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zero_init(layer: Layer) -> Layer:
    """Sets weight and bias to zero, so that a residual branch starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _compiled_for_cuda(x: Tensor) -> bool:
    """Whether the compiler will make kernels for a GPU of what is done with ``x``."""
    return x.device.type == "cuda" and torch.compiler.is_compiling()


def _has_tangent(x: Tensor) -> bool:
    """Whether a derivative is taken forwards, along with ``x``."""
    return not torch.compiler.is_compiling() and forward_ad.unpack_dual(x).tangent is not None


class GroupNorm(nn.GroupNorm):
    """Group normalisation that leaves channels last where they are last.

    Wu & He, Group Normalization, 2018 (arXiv:1803.08494).
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape, by statistics in float32 at least."""
        # torch's own puts channels first on a GPU, up to torch 2.11 in what it compiles too, so
        # that every convolution copies its input. Spelled out, the compiler makes as few kernels.
        # Nor can torch 2.11 take its derivative forwards where channels are last.
        if not (_compiled_for_cuda(input) or _has_tangent(input)):
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        x = x.unflatten(1, (self.num_groups, -1))
        var, mean = torch.var_mean(x, dim=(2, 3, 4), correction=0, keepdim=True)
        x = ((x - mean) * (var + self.eps).rsqrt()).flatten(1, 2)
        return (x * self.weight[:, None, None] + self.bias[:, None, None]).to(input.dtype)


def group_norm(channels: int, groups: int) -> GroupNorm:
    """Group normalisation; raises ValueError where ``groups`` does not divide ``channels``."""
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels do not divide into {groups} groups")
    return GroupNorm(groups, channels)


def _doubled(x: Tensor) -> Tensor:
    """Each pixel of [B, C, H, W] four times: [B, C, 2 H, 2 W]."""
    if not _compiled_for_cuda(x):
        return interpolate(x, scale_factor=2.0, mode="nearest")
    # On the way back this is a sum; the compiler's own adds to memory, pixel by pixel.
    x = x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).flatten(4, 5).flatten(2, 3)
    return x.contiguous(memory_format=torch.channels_last)


class Modulation(NamedTuple):
    """``(1 + scale) * h + shift``, each [B, C, 1, 1]."""

    scale: Tensor
    shift: Tensor


class FiLM(nn.Module):
    """Projects the noise embedding to a scale and a shift per channel.

    Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, 2018
    (arXiv:1709.07871).

    Arguments:
        embed_dim: Width of the noise embedding.
        channels: Channels to modulate.
    """

    def __init__(self, embed_dim: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.SiLU(), nn.Linear(embed_dim, 2 * channels))

    def forward(self, embedding: Tensor) -> Modulation:
        """The modulation for an embedding [B, embed_dim]."""
        return Modulation(*self.project(embedding)[:, :, None, None].chunk(2, dim=1))


def activated(h: Tensor) -> Tensor:
    """SiLU of ``h``, written over it where nothing is differentiated: ``h`` is used up.

    A tenth less time for a sample on a CPU, where memory that is asked for is slow at first.
    """
    return silu(h, inplace=not torch.is_grad_enabled())


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, norm, FiLM, SiLU, dropout, conv; plus a shortcut.

    Dhariwal & Nichol, Diffusion Models Beat GANs on Image Synthesis, 2021 (arXiv:2105.05233),
    appendix A; the FiLM projection lives outside, so that blocks can share it.

    Arguments:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        groups: Groups of both normalisations.
        dropout: Probability of zeroing an activation before the last convolution.
    """

    def __init__(
        self, in_channels: int, *, out_channels: int, groups: int, dropout: float
    ) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels, groups)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, 1)
        )

    def forward(self, x: Tensor, modulation: Modulation) -> Tensor:
        """[B, in_channels, H, W] to [B, out_channels, H, W]."""
        h = self.conv1(activated(self.norm1(x)))
        h = self.norm2(h) * (1 + modulation.scale) + modulation.shift
        return self.shortcut(x) + self.conv2(self.dropout(activated(h)))


class Downsample(nn.Conv2d):
    """Halves the resolution by a strided convolution; odd sizes round up."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Upsample(nn.Module):
    """Doubles the resolution: nearest neighbour, then a convolution.

    Odena et al., Deconvolution and Checkerboard Artifacts, 2016 (doi:10.23915/distill.00003).

    Arguments:
        channels: C of the input.
        out_channels: Channels of the output.
    """

    def __init__(self, channels: int, *, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """[B, C, H, W] to [B, out_channels, *size], where each of ``size`` is twice that of ``x``,
        or odd and one less: that which :class:`Downsample` rounded up.
        """
        return self.conv(_doubled(x)[..., : size[0], : size[1]])
