"""Multi-head attention over the pixels of a feature map."""

from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ccdiff.nn.layers import group_norm, zero_init

__all__ = ["CrossAttention", "SelfAttention"]


def _num_heads(channels: int, head_channels: int) -> int:
    if head_channels < 1 or channels % head_channels:
        raise ValueError(f"{channels} channels do not divide into heads of {head_channels}")
    return channels // head_channels


class SelfAttention(nn.Module):
    """Every pixel attends to every pixel; residual, with a zero-initialised output.

    Arguments:
        channels: C of the feature map.
        head_channels: Channels per head; must divide ``channels``.
        groups: Groups of the normalisation before it.
    """

    def __init__(self, channels: int, *, head_channels: int, groups: int) -> None:
        super().__init__()
        self.heads = _num_heads(channels, head_channels)
        self.norm = group_norm(channels, groups)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Feature map [B, C, H, W] to the same shape."""
        height = x.shape[2]
        pattern = "b (three heads c) h w -> three b heads (h w) c"
        q, k, v = rearrange(self.qkv(self.norm(x)), pattern, three=3, heads=self.heads)
        attended = scaled_dot_product_attention(q, k, v)
        return x + self.out(rearrange(attended, "b heads (h w) c -> b (heads c) h w", h=height))


class CrossAttention(nn.Module):
    """Every pixel attends to the label tokens; residual, with a zero-initialised output.

    With a single token its softmax is 1, and it adds one learned vector per class.

    Arguments:
        channels: C of the feature map.
        token_dim: D of the tokens.
        head_channels: Channels per head; must divide ``channels``.
        groups: Groups of the normalisation before it.
    """

    def __init__(self, channels: int, *, token_dim: int, head_channels: int, groups: int) -> None:
        super().__init__()
        self.heads = _num_heads(channels, head_channels)
        self.norm = group_norm(channels, groups)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Linear(token_dim, 2 * channels)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Feature map [B, C, H, W] and tokens [B, L, D] to the shape of the feature map."""
        height = x.shape[2]
        q = rearrange(
            self.query(self.norm(x)), "b (heads c) h w -> b heads (h w) c", heads=self.heads
        )
        k, v = rearrange(
            self.key_value(tokens), "b l (two heads c) -> two b heads l c", two=2, heads=self.heads
        )
        attended = scaled_dot_product_attention(q, k, v)
        return x + self.out(rearrange(attended, "b heads (h w) c -> b (heads c) h w", h=height))
