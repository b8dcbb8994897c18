"""A plain transformer on patches of pixels: a network ``F(x, log_snr, tokens)``.

Li & He, Back to Basics: Let Denoising Generative Models Denoise, 2025 (arXiv:2511.13720), section
4: no convolution, no second network, no loss of its own. Patches of many pixels are told through
few numbers, and what they were is best predicted as clean images, which lie on few dimensions,
where noise fills all (``prediction=clean weighting=flow``).
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import pad, silu
from torch.utils.checkpoint import checkpoint

from ccdiff.nn.embedding import IntervalEmbedding, NoiseEmbedding
from ccdiff.nn.layers import zero_init
from ccdiff.nn.transformer import Block, grid_positions, modulated, rotation, sinusoids

__all__ = ["ViT"]


class ViT(nn.Module):
    """A vision transformer of ``depth`` blocks on squares of ``patch`` x ``patch`` pixels.

    Images that do not divide into patches are zero-padded on the way in and cropped on the way
    out, so every size of at least one pixel is accepted, and one network takes many sizes. A new
    network returns zero everywhere, so that training starts from the mean.

    The label enters with the noise level, as the mean of its tokens, and as tokens beside the
    patches, each attribute as its own. Their order makes no difference.

    Arguments:
        image_channels: C of the images.
        token_dim: D of the label tokens.
        patch: Side of a patch in pixels. Work falls with its square: 16 for 256 px and 2 for
            32 px are both 256 patches.
        width: Size of a token inside.
        depth: Number of blocks.
        head_channels: Channels per head of the attention, a multiple of 4 that divides ``width``.
        bottleneck: As many numbers as a patch is told through on the way in. The paper, section
            4.3: a linear layer of low rank, which helps where patches are large.
        mlp_ratio: Width of the gated layers over ``width``, were they two plain ones.
        context_tokens: As many tokens as each token of the label becomes beside the patches, the
            same but for a learned vector. The paper, appendix A, has 32 for one class.
        context_start: Number of the block, from 0, from which on they are there.
        dropout: Dropout probability at the end of residual branches.
        gradient_checkpointing: Whether training computes the activations inside blocks a second
            time on the way back, and does not keep them: less memory for a third more time (Chen
            et al., Training Deep Nets with Sublinear Memory Cost, 2016, arXiv:1604.06174).
            Gradients are the same.
        interval: Whether the network is told a second noise level, toward which its estimates
            shall lead.
        noise_span: As ``span`` of :class:`~ccdiff.nn.embedding.NoiseEmbedding`.

    Raises:
        ValueError: Where a number is out of range, or a width does not divide into heads.
    """

    def __init__(
        self,
        image_channels: int,
        *,
        token_dim: int,
        patch: int,
        width: int,
        depth: int,
        head_channels: int = 64,
        bottleneck: int = 128,
        mlp_ratio: float = 4.0,
        context_tokens: int = 1,
        context_start: int = 0,
        dropout: float = 0.0,
        gradient_checkpointing: bool = False,
        interval: bool = False,
        noise_span: float = 1000.0,
    ) -> None:
        super().__init__()
        positive = {"patch": patch, "depth": depth, "bottleneck": bottleneck}
        for name, value in {**positive, "context_tokens": context_tokens}.items():
            if value < 1:
                raise ValueError(f"model.{name} must be at least 1, got {value}")
        if head_channels < 4 or head_channels % 4:
            raise ValueError(f"model.head_channels must be a multiple of 4, got {head_channels}")
        if width < 1 or width % head_channels:
            raise ValueError(f"model.width={width} does not divide into heads of {head_channels}")
        if not 0 <= context_start < depth:
            raise ValueError(
                f"model.context_start must be one of the {depth} blocks, from 0, "
                f"got {context_start}"
            )
        if mlp_ratio <= 0:
            raise ValueError(f"model.mlp_ratio must be positive, got {mlp_ratio}")
        self.patch = patch
        self.head_channels = head_channels
        self.context_start = context_start
        self.features = f"blocks.{max(0, depth // 4 - 1)}"
        """The module whose output stands for what the network sees in an image."""
        self.gradient_checkpointing = gradient_checkpointing
        pixels = image_channels * patch**2
        self.embed_patch = nn.Sequential(
            nn.Linear(pixels, bottleneck, bias=False), nn.Linear(bottleneck, width)
        )
        self.embed_noise = NoiseEmbedding(width, out_dim=width, span=noise_span)
        self.embed_label = nn.Linear(token_dim, width)
        self.context = nn.Linear(token_dim, width)
        self.context_vectors = nn.Parameter(torch.zeros(context_tokens, width))
        nn.init.normal_(self.context_vectors, std=0.02)
        self.blocks = nn.ModuleList(
            Block(width, head_channels=head_channels, mlp_ratio=mlp_ratio, dropout=dropout)
            for _ in range(depth)
        )
        self.out_modulation = zero_init(nn.Linear(width, 2 * width))
        self.out = zero_init(nn.Linear(width, pixels))
        self.interval = interval
        # Last, so that the other weights are those of a network without it.
        self.embed_interval = (
            IntervalEmbedding(width, out_dim=width, span=noise_span) if interval else None
        )

    def check_size(self, height: int, width: int) -> None:
        """Refuses images of which a patch is larger, so that most of it would be padding.

        Raises:
            ValueError: With the sizes.
        """
        if self.patch > max(height, width):
            raise ValueError(
                f"model.patch={self.patch} is larger than the images, {height} x {width}: a "
                f"quarter of their side or less tells the network where things are"
            )

    def forward(
        self, x: Tensor, log_snr: Tensor, tokens: Tensor, toward: Tensor | None = None
    ) -> Tensor:
        """``F`` [B, C, H, W] for images of that shape, noise levels [B] and tokens [B, L, D].

        ``toward`` [B] are the levels to which estimates shall lead, with ``interval`` alone; None
        is those of the images.
        """
        height, width = x.shape[-2:]
        x = pad(x, (0, -width % self.patch, 0, -height % self.patch))
        rows, columns = x.shape[-2] // self.patch, x.shape[-1] // self.patch
        squares = {"p": self.patch, "q": self.patch}
        h = self.embed_patch(rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", **squares))
        weights = self.context_vectors
        positions = grid_positions(rows, columns, like=weights)
        # Of the weights' type, and not of autocast's, so that the sum over the blocks is exact.
        h = h + sinusoids(*positions, h.shape[-1]).to(weights.dtype)
        noise = self.embed_noise(log_snr)
        if self.embed_interval is not None:
            noise = noise + self.embed_interval(log_snr, log_snr if toward is None else toward)
        embedding = silu(noise + self.embed_label(tokens.mean(1)))
        context = (self.context(tokens).unsqueeze(2) + self.context_vectors).flatten(1, 2)

        angles = rotation(*positions, self.head_channels)
        turn = angles.cos(), angles.sin()
        for i, block in enumerate(self.blocks):
            if i == self.context_start:
                h = torch.cat([context.to(h.dtype), h], dim=1)
                angles = pad(angles, (0, 0, context.shape[1], 0))  # Labels have no position.
                turn = angles.cos(), angles.sin()
            if self.gradient_checkpointing and self.training:
                h = checkpoint(
                    block, h, embedding, *turn, use_reentrant=False, preserve_rng_state=True
                )
            else:
                h = block(h, embedding, *turn)
        shift, scale = self.out_modulation(embedding).unsqueeze(1).chunk(2, dim=-1)
        output = self.out(modulated(h[:, -rows * columns :], shift, scale))
        pattern = "b (h w) (c p q) -> b c (h p) (w q)"
        return rearrange(output, pattern, h=rows, **squares)[..., :height, :width]
