"""The U-Net: a network ``F(x, log_snr, tokens)`` that knows nothing of diffusion.

Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation, 2015
(arXiv:1505.04597), with the residual blocks and attention of Ho et al., 2020 (arXiv:2006.11239).
The noise level enters every residual block by FiLM; the label enters once, by cross-attention at
the bottleneck, and beside that, where asked for, with the noise level.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle
from torch.utils.checkpoint import checkpoint

from ccdiff.nn.attention import CrossAttention, SelfAttention
from ccdiff.nn.embedding import IntervalEmbedding, NoiseEmbedding
from ccdiff.nn.layers import (
    Downsample,
    FiLM,
    Modulation,
    ResidualBlock,
    Upsample,
    activated,
    group_norm,
    zero_init,
)

__all__ = ["UNet"]


class _FiLMBank(nn.Module):
    """All FiLM projections of a network, evaluated once per forward pass.

    Shared: one projection per channel width, used by every block of that width. Per block: one
    for each. Either way a block asks by the key that :meth:`register_block` gave it.
    """

    def __init__(self, embed_dim: int, *, shared: bool) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.shared = shared
        self.films = nn.ModuleDict()

    def register_block(self, channels: int) -> str:
        key = f"width_{channels}" if self.shared else f"block_{len(self.films)}"
        if key not in self.films:
            self.films[key] = FiLM(self.embed_dim, channels)
        return key

    def forward(self, embedding: Tensor) -> dict[str, Modulation]:
        return {key: film(embedding) for key, film in self.films.items()}


class _Stage(nn.Module):
    """A residual block, optionally followed by self-attention.

    With ``recompute``, training keeps of it its input alone, and goes through it again on the way
    back, with the same dropout.
    """

    def __init__(
        self, block: ResidualBlock, film: str, attention: nn.Module, *, recompute: bool
    ) -> None:
        super().__init__()
        self.block = block
        self.film = film
        self.attention = attention
        self.recompute = recompute

    def forward(self, x: Tensor, modulations: dict[str, Modulation]) -> Tensor:
        modulation = modulations[self.film]
        if self.recompute and self.training:
            return checkpoint(
                self._compute, x, modulation, use_reentrant=False, preserve_rng_state=True
            )
        return self._compute(x, modulation)

    def _compute(self, x: Tensor, modulation: Modulation) -> Tensor:
        return self.attention(self.block(x, modulation))


class _Down(nn.Module):
    """One resolution on the way down: stages, then half the resolution."""

    def __init__(self, stages: Iterable[_Stage], width: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.downsample = Downsample(width)

    def forward(
        self, h: Tensor, modulations: dict[str, Modulation]
    ) -> tuple[Tensor, list[Tensor]]:
        """The feature map for the next resolution, and one skip connection per stage."""
        skips = []
        for stage in self.stages:
            h = stage(h, modulations)
            skips.append(h)
        return self.downsample(h), skips


class _Up(nn.Module):
    """One resolution on the way up: twice the resolution, then stages that each take a skip.

    Arguments:
        width: Channels of what comes from below.
        stages: One for each skip.
        upsampled: Channels after the resolution is doubled.
        add: Whether a skip is added to what a stage takes in, or put beside it.
    """

    def __init__(self, width: int, stages: Iterable[_Stage], *, upsampled: int, add: bool) -> None:
        super().__init__()
        self.upsample = Upsample(width, out_channels=upsampled)
        self.stages = nn.ModuleList(stages)
        self.add = add

    def forward(
        self, h: Tensor, skips: list[Tensor], modulations: dict[str, Modulation]
    ) -> Tensor:
        h = self.upsample(h, skips[0].shape[-2:])
        for stage, skip in zip(self.stages, reversed(skips), strict=True):
            h = stage(h + skip if self.add else torch.cat([h, skip], dim=1), modulations)
        return h


class UNet(nn.Module):
    """A U-Net of ``len(channels)`` resolutions, halved once more into a bottleneck.

    Odd sides are rounded up where they are halved and cropped where they are doubled, and images
    that do not divide into patches are zero-padded on the way in and cropped on the way out, so
    every model takes every data set.

    Arguments:
        image_channels: C of the images.
        token_dim: D of the label tokens.
        channels: Width of each resolution, finest first.
        bottleneck: Width at the bottleneck.
        num_blocks: Residual blocks per resolution, on the way down and on the way up.
        attention: For each resolution, whether self-attention follows every residual block but
            the last, so that it sits between the two where there are two.
        bottleneck_attention: Whether self-attention precedes the cross-attention.
        head_channels: Channels per attention head.
        groups: Groups of every normalisation. Choose them of 16 channels or more: smaller ones are
            several times slower on a CPU, and no better (Wu & He, Group Normalization, 2018,
            arXiv:1803.08494, table 3).
        embed_dim: Width of the noise embedding.
        dropout: Dropout probability inside residual blocks.
        film: ``shared`` is one FiLM projection per channel width, ``per_block`` one per block.
        gradient_checkpointing: Whether training computes the activations inside residual blocks
            and self-attention a second time on the way back, and does not keep them: less memory
            for a third more time (Chen et al., Training Deep Nets with Sublinear Memory Cost,
            2016, arXiv:1604.06174). Gradients are the same.
        label_film: Whether the mean of the label tokens is added to the noise embedding, so that
            the label enters every residual block too. Dhariwal & Nichol, 2021
            (arXiv:2105.05233), section 3.
        patch: Side of the squares of pixels that become channels on the way in and pixels again
            on the way out, so that the network works at ``1 / patch`` of the resolution and does
            about ``1 / patch^2`` of the operations. Hoogeboom et al., simple diffusion, 2023
            (arXiv:2301.11093), section 3.
        skips: ``concat`` puts features of the way down beside those of the way up; ``add`` adds
            them, for a fifth less work. Chaurasia & Culurciello, LinkNet, 2017
            (arXiv:1707.03718).
        interval: Whether the network is told a second noise level, toward which its estimates
            lead, as objective=meanflow and shortcut want. It starts as a network that is not.
        noise_span: What the angle of the noise level runs over, whose sinusoids are embedded; 10
            is best for objective=meanflow, which takes the derivative by it.

    Raises:
        ValueError: Where lengths disagree, attention has no place to sit, or a width is not
            divisible by groups or heads.
    """

    def __init__(
        self,
        image_channels: int,
        *,
        token_dim: int,
        channels: Sequence[int],
        bottleneck: int,
        num_blocks: int = 2,
        attention: Sequence[bool],
        bottleneck_attention: bool = True,
        head_channels: int = 64,
        groups: int = 32,
        embed_dim: int = 512,
        dropout: float = 0.0,
        film: Literal["shared", "per_block"] = "shared",
        gradient_checkpointing: bool = False,
        label_film: bool = False,
        patch: int = 1,
        skips: Literal["concat", "add"] = "concat",
        interval: bool = False,
        noise_span: float = 1000.0,
    ) -> None:
        super().__init__()
        if len(channels) < 1:
            raise ValueError("model.channels must name the width of at least one resolution")
        if len(attention) != len(channels):
            raise ValueError(
                f"model.attention has {len(attention)} entries for {len(channels)} resolutions"
            )
        if film not in ("shared", "per_block"):
            raise ValueError(f"model.film must be shared or per_block, got {film!r}")
        if num_blocks < 1:
            raise ValueError(f"model.num_blocks must be at least 1, got {num_blocks}")
        if num_blocks == 1 and any(attention):
            raise ValueError(
                "self-attention sits between the residual blocks of a resolution: with "
                "model.num_blocks=1 there is no place for it, so model.attention must be all false"
            )
        if skips not in ("concat", "add"):
            raise ValueError(f"model.skips must be concat or add, got {skips!r}")
        if patch < 1:
            raise ValueError(f"model.patch must be at least 1, got {patch}")
        self.patch = patch
        self.features = "middle_in"
        """The module whose output stands for what the network sees in an image."""
        self.embed = NoiseEmbedding(channels[0], out_dim=embed_dim, span=noise_span)
        self.embed_label = nn.Linear(token_dim, embed_dim) if label_film else None
        self.films = _FiLMBank(embed_dim, shared=film == "shared")

        def stages(ins: Sequence[int], out: int, attend: bool) -> Iterator[_Stage]:
            for i, in_channels in enumerate(ins):
                yield _Stage(
                    ResidualBlock(in_channels, out_channels=out, groups=groups, dropout=dropout),
                    self.films.register_block(out),
                    SelfAttention(out, head_channels=head_channels, groups=groups)
                    if attend and i < len(ins) - 1
                    else nn.Identity(),
                    recompute=gradient_checkpointing,
                )

        self.stem = nn.Conv2d(image_channels * patch**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList()
        width = channels[0]
        for out, attend in zip(channels, attention, strict=True):
            ins = [width] + [out] * (num_blocks - 1)
            self.down.append(_Down(stages(ins, out, attend), out))
            width = out

        (self.middle_in,) = stages([width], bottleneck, False)
        heads = {"head_channels": head_channels, "groups": groups}
        self.middle_self = (
            SelfAttention(bottleneck, **heads) if bottleneck_attention else nn.Identity()
        )
        self.middle_cross = CrossAttention(bottleneck, token_dim=token_dim, **heads)
        (self.middle_out,) = stages([bottleneck], bottleneck, False)

        self.up = nn.ModuleList()
        width = bottleneck
        add = skips == "add"
        for out, attend in zip(reversed(channels), reversed(attention), strict=True):
            ins = [out] * num_blocks if add else [width + out] + [2 * out] * (num_blocks - 1)
            upsampled = out if add else width
            self.up.append(_Up(width, stages(ins, out, attend), upsampled=upsampled, add=add))
            width = out
        self.out_norm = group_norm(width, groups)
        self.out = zero_init(nn.Conv2d(width, image_channels * patch**2, 3, padding=1))
        self.interval = interval
        # Last, so that the other weights are those of a network without it.
        self.embed_interval = (
            IntervalEmbedding(channels[0], out_dim=embed_dim, span=noise_span)
            if interval
            else None
        )
        # Activations follow the weights. The fastest layout of convolutions, on CPUs and on GPUs.
        self.to(memory_format=torch.channels_last)

    def forward(
        self, x: Tensor, log_snr: Tensor, tokens: Tensor, toward: Tensor | None = None
    ) -> Tensor:
        """``F`` [B, C, H, W] for images of that shape, noise levels [B] and tokens [B, L, D].

        ``toward`` [B] are the levels to which estimates shall lead, with ``interval`` alone; None
        is those of the images.
        """
        height, width = x.shape[-2:]
        x = pad(x, (0, -width % self.patch, 0, -height % self.patch))
        embedding = self.embed(log_snr)
        if self.embed_interval is not None:
            embedding = embedding + self.embed_interval(
                log_snr, log_snr if toward is None else toward
            )
        if self.embed_label is not None:
            embedding = embedding + self.embed_label(tokens.mean(1))
        modulations = self.films(embedding)
        # Which copy even where they change nothing.
        h = self.stem(pixel_unshuffle(x, self.patch) if self.patch > 1 else x)
        skips = []
        for down in self.down:
            h, new = down(h, modulations)
            skips.append(new)
        h = self.middle_self(self.middle_in(h, modulations))
        h = self.middle_out(self.middle_cross(h, tokens), modulations)
        for up in self.up:
            h = up(h, skips.pop(), modulations)
        output = self.out(activated(self.out_norm(h)))
        if self.patch > 1:
            output = pixel_shuffle(output, self.patch)
        return output[..., :height, :width]
