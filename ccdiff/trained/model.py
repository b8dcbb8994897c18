"""A trained model to draw images with: from an exported folder, a run or a checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from ccdiff.config.build import build_denoiser, image_shape_of, instantiate
from ccdiff.config.saved import load_config
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.errors import UserError
from ccdiff.generation.labels import parse_labels
from ccdiff.generation.pipeline import Pipeline, sample_seeds
from ccdiff.runs.checkpoints import open_checkpoint
from ccdiff.system.device import pick_device
from ccdiff.trained.run import trained_config, trained_denoiser

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "Model", "load_model"]

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained model, ready to draw images.

    Arguments:
        denoiser: In evaluation mode, on its device.
        config: What it was trained with.
        pipeline: Draws as the config says.
    """

    denoiser: Denoiser
    config: DictConfig
    pipeline: Pipeline

    @property
    def label_names(self) -> tuple[str, ...]:
        """One per class or attribute."""
        return tuple(self.denoiser.conditioning.label_names)

    def sample(self, labels: Any = None, *, num_per_label: int = 1, seed: int = 0) -> Tensor:
        """Draws images, those that ``sample.py`` draws with the sampler of the config.

        Arguments:
            labels: As on the command line, such as ``["cat", 3]``; None is one of each class.
            num_per_label: Images per row of labels.
            seed: The same seed gives the same images.

        Returns:
            Images uint8 [N, C, H, W] on the CPU, row by row.

        Raises:
            UserError: Where a label is unknown, or there is nothing to draw.
        """
        if num_per_label < 1:
            raise UserError(f"num_per_label must be at least 1, got {num_per_label}")
        y, drop, titles = parse_labels(labels, self.denoiser.conditioning)
        y = y.repeat_interleave(num_per_label, dim=0)
        drop = None if drop is None else drop.repeat_interleave(num_per_label, dim=0)
        seeds = sample_seeds(seed, titles, num_per_label)
        return self.pipeline(self.denoiser, y, drop, seeds=seeds)[0]


def load_model(path: str | Path, *, device: str = "auto") -> Model:
    """Opens an exported folder, a run directory or a checkpoint; no code of theirs is run.

    Arguments:
        path: Which.
        device: auto, cpu, cuda or cuda:<n>.

    Raises:
        UserError: Where there is none, or it is damaged.
    """
    folder = Path(path).expanduser()
    if (folder / WEIGHTS_FILE).is_file():
        config, denoiser = _read(folder)
    else:
        _, checkpoint = open_checkpoint(str(path))
        config, denoiser = trained_config(checkpoint), trained_denoiser(checkpoint)
    pipeline = Pipeline(
        sampler=instantiate(config.sampler),
        guidance=instantiate(config.guidance),
        threshold=instantiate(config.threshold),
        image_shape=image_shape_of(config),
    )
    return Model(
        denoiser=denoiser.to(pick_device(device)).requires_grad_(False).eval(),
        config=config,
        pipeline=pipeline,
    )


def _read(folder: Path) -> tuple[DictConfig, Denoiser]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = load_config(folder / CONFIG_FILE)
        state = load_file(folder / WEIGHTS_FILE)
        with torch.device("meta"):
            denoiser = build_denoiser(config)
        denoiser.load_state_dict(state, assign=True)
    except UserError:
        raise
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(
            f"{folder} is not a whole export: {error}; make it anew with "
            f"python -m ccdiff.export run=<run>"
        ) from error
    return config, denoiser
