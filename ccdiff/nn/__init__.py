"""Networks ``F(x, log_snr, tokens)``; they know nothing of diffusion."""

from ccdiff.nn.unet import UNet

__all__ = ["UNet"]
