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

from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["load", "open_run", "train"]


def load(path: Any, *, device: str = "auto") -> Any:
    """Opens a trained model to draw images with.

    Arguments:
        path: A folder of ``python -m ccdiff.export``, ``hub:user/name`` where one was pushed to
            the Hugging Face hub, a run, its directory, a checkpoint, or ``latest``.
        device: auto, cpu, cuda, cuda:<n> or mps.

    Returns:
        A :class:`ccdiff.trained.model.Model`, whose ``sample(["cat", "dog"])`` gives
        :class:`~ccdiff.generation.images.Images`.

    Raises:
        ccdiff.errors.UserError: Where there is none, or it is damaged.
    """
    # torch takes seconds to import, and every command imports this package.
    from ccdiff.trained.model import load_model

    return load_model(path, device=device)


def open_run(reference: str | Path = "latest") -> Any:
    """A run to look at: a notebook shows its figures, its latest grid and its curves.

    Arguments:
        reference: A run directory, a checkpoint, or ``latest``.

    Returns:
        A :class:`ccdiff.runs.folder.Run`.

    Raises:
        ccdiff.errors.UserError: Where there is none.
    """
    from ccdiff.runs.folder import find_checkpoint, run_of

    return run_of(find_checkpoint(str(reference)))


def __getattr__(name: str) -> Any:
    if name == "train":
        # A package of the same name, which is called: see ccdiff.train.calling.train.
        return import_module("ccdiff.train")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
