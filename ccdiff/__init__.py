"""Class-conditional image diffusion, composed from small parts.

Notation, used verbatim as variable names everywhere:

- ``x0`` clean images in [-1, 1], ``eps`` standard normal noise, both [B, C, H, W];
- ``t`` time in [0, 1], 0 is clean and 1 is noise, ``s < t`` the next time of a sampler;
- ``x_t = alpha_t * x0 + sigma_t * eps``, ``log_snr = log(alpha_t^2 / sigma_t^2)``;
- ``x0_hat`` an estimate of ``x0``; "denoise" always means "return ``x0_hat``";
- ``y`` labels, ``drop`` the mask of labels hidden from the network;
- ``w`` the guidance scale: 1 is plain conditional, 0 unconditional.

Modules import one way only: parts (schedules, predictions, weightings, times, conditioning, nn,
data) <- denoiser, oracle <- objective, guidance, samplers, visual <- training, runs <- commands.
"""

from pathlib import Path
from typing import Any

__all__ = ["load"]


def load(path: str | Path, *, device: str = "auto") -> Any:
    """Opens a trained model to draw images with.

    Arguments:
        path: A folder of ``python -m ccdiff.export``, a run directory or a checkpoint.
        device: auto, cpu, cuda or cuda:<n>.

    Returns:
        A :class:`ccdiff.trained.model.Model`, whose ``sample(["cat", "dog"])`` gives uint8 images
        [2, C, H, W].

    Raises:
        ccdiff.errors.UserError: Where there is none, or it is damaged.
    """
    # torch takes seconds to import, and every command imports this package.
    from ccdiff.trained.model import load_model

    return load_model(path, device=device)
