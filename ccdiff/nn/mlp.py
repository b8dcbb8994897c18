"""A perceptron on all numbers of an image at once: for points of the plane, and small images."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import silu

from ccdiff.nn.embedding import NoiseEmbedding
from ccdiff.nn.layers import zero_init

__all__ = ["MLP"]


class MLP(nn.Module):
    """Residual layers of one width, told the noise level and the label by a scale and a shift.

    ``h + W_2 silu((1 + scale) W_1 norm(h) + shift)``, as the blocks of :class:`~ccdiff.nn.UNet`
    without the convolutions. What is near in an image means nothing to it.

    Arguments:
        image_channels: C.
        image_size: The side of an image, or height and width.
        token_dim: D of the label's tokens, which are averaged.
        width: Of the layers.
        depth: Residual layers.
        dropout: Probability of zeroing an activation before each second product.
    """

    def __init__(
        self,
        image_channels: int,
        *,
        image_size: int | Sequence[int],
        token_dim: int,
        width: int = 128,
        depth: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("depth", depth)):
            if value < 1:
                raise ValueError(f"model.{name} must be at least 1, got {value}")
        if width % 2 or width < 4:
            raise ValueError(f"model.width must be even and at least 4, got {width}")
        sides = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
        numbers = image_channels * sides[0] * sides[1]
        self.embed = nn.Linear(numbers, width)
        self.embed_noise = NoiseEmbedding(width, out_dim=width)
        self.embed_label = nn.Linear(token_dim, width)
        self.blocks = nn.ModuleList(_Block(width, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = zero_init(nn.Linear(width, numbers))

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor) -> Tensor:
        """``F`` [B, C, H, W] for images of that shape, noise levels [B] and tokens [B, L, D]."""
        embedding = silu(self.embed_noise(log_snr) + self.embed_label(tokens.mean(1)))
        h = self.embed(x.flatten(1))  # [B, width]
        for block in self.blocks:
            h = block(h, embedding)
        return self.out(silu(self.norm(h))).reshape(x.shape)


class _Block(nn.Module):
    def __init__(self, width: int, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.second = zero_init(nn.Linear(width, width))

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding).chunk(2, dim=1)
        inner = silu((1 + scale) * self.first(self.norm(h)) + shift)
        return h + self.second(self.dropout(inner))
