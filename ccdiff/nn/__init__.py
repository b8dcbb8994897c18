"""Networks ``F(x, log_snr, tokens)``; they know nothing of diffusion."""

from ccdiff.nn.mlp import MLP
from ccdiff.nn.unet import UNet
from ccdiff.nn.vit import ViT

__all__ = ["MLP", "UNet", "ViT"]
