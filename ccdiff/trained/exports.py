"""What an export holds: a config and the weights of a denoiser."""

from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from ccdiff.config.build import build_denoiser
from ccdiff.config.saved import load_config
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.errors import UserError
from ccdiff.nn.unfilled import unfilled
from ccdiff.runs.exports import CONFIG_FILE, WEIGHTS_FILE

__all__ = ["Export", "read_export"]


class Export(NamedTuple):
    """An export, read.

    Arguments:
        config: What the model was trained with, with the names of today.
        denoiser: On the CPU, in evaluation mode.
    """

    config: DictConfig
    denoiser: Denoiser


def read_export(folder: Path) -> Export:
    """Reads an export; no code of its author's is run.

    Raises:
        UserError: Where it is damaged, or its config names what is not to be built.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = load_config(folder / CONFIG_FILE)
        state = load_file(folder / WEIGHTS_FILE)
        with unfilled():
            denoiser = build_denoiser(config)
        denoiser.load_state_dict(state, assign=True)
    except UserError:
        raise
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(
            f"{folder} is not a whole export: {error}; make it anew with "
            f"python -m ccdiff.export run=<run>"
        ) from error
    return Export(config, denoiser.requires_grad_(False).eval())
