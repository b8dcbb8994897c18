"""A trained model to hand on: its weights as safetensors, its config, and a card that tells of it.

safetensors holds tensors and nothing else, so reading it runs no code:
https://github.com/huggingface/safetensors.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ccdiff.config.build import build_denoiser, instantiate, trained_config, trained_denoiser
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.errors import UserError
from ccdiff.generation.labels import parse_labels
from ccdiff.generation.pipeline import Generator, sample_seeds
from ccdiff.runs.checkpoints import Checkpoint, open_checkpoint
from ccdiff.runs.folder import Run, run_of
from ccdiff.runs.tracker import read_metrics
from ccdiff.system.atomic import write_text, write_whole
from ccdiff.system.device import pick_device
from ccdiff.trained.run import new_folder

__all__ = ["Model", "load_model", "run_export"]

log = logging.getLogger(__name__)

_WEIGHTS = "model.safetensors"
_CONFIG = "config.yaml"
_CARD = "README.md"
_FORMAT = "1"
_OF_TRAINING = (
    *("train/lr", "train/images_seen", "train/images_per_second", "train/flops_per_second"),
    *("train/mfu", "time/"),
)
"""How the keys of figures begin that do not tell of the model."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained model, ready to draw images.

    Arguments:
        denoiser: In evaluation mode, on its device.
        config: What it was trained with.
        generator: Draws as the config says.
    """

    denoiser: Denoiser
    config: DictConfig
    generator: Generator

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
        return self.generator(self.denoiser, y, drop, seeds=seeds)[0]


def load_model(path: str | Path, *, device: str = "auto") -> Model:
    """Opens an exported folder, a run directory or a checkpoint; no code of theirs is run.

    Arguments:
        path: Which.
        device: auto, cpu, cuda or cuda:<n>.

    Raises:
        UserError: Where there is none, or it is damaged.
    """
    folder = Path(path).expanduser()
    if (folder / _WEIGHTS).is_file():
        config, denoiser = _read(folder)
    else:
        _, checkpoint = open_checkpoint(str(path))
        config, denoiser = trained_config(checkpoint), trained_denoiser(checkpoint)
    data = config.data
    generator = Generator(
        sampler=instantiate(config.sampler),
        guidance=instantiate(config.guidance),
        threshold=instantiate(config.threshold),
        image_shape=(data.channels, data.image_size, data.image_size),
    )
    return Model(
        denoiser=denoiser.to(pick_device(device)).requires_grad_(False).eval(),
        config=config,
        generator=generator,
    )


def _read(folder: Path) -> tuple[DictConfig, Denoiser]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = cast(DictConfig, OmegaConf.create((folder / _CONFIG).read_text()))
        state = load_file(folder / _WEIGHTS)
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


def run_export(cfg: DictConfig) -> Path:
    """Writes weights, config and card.

    Returns:
        The folder.

    Raises:
        UserError: Where the run or the folder will not do.
    """
    from safetensors.torch import save

    if cfg.run is None:
        raise UserError("which run? pass run=<run directory>, run=<checkpoint> or run=latest")
    path, checkpoint = open_checkpoint(cfg.run)
    denoiser = trained_denoiser(checkpoint, weights=cfg.weights)
    config = trained_config(checkpoint)
    # The format takes contiguous tensors that share no memory.
    plain = torch.contiguous_format
    state = {k: v.clone(memory_format=plain) for k, v in denoiser.state_dict().items()}
    about = {"format": _FORMAT, "step": str(checkpoint["step"]), "weights": cfg.weights}
    run = run_of(path)
    out = new_folder(cfg.out, run.path / "exported", config)
    write_whole(out / _WEIGHTS, lambda file: file.write(save(state, metadata=about)))
    card = _card(config, checkpoint, run, denoiser, weights=cfg.weights)
    write_text(out / _CARD, card)
    log.info("exported %s to %s", path, out)
    return out


def _card(
    config: DictConfig, checkpoint: Checkpoint, run: Run, denoiser: Denoiser, *, weights: str
) -> str:
    """What somebody who was handed the folder wants to know, as Markdown."""
    names = list(denoiser.conditioning.label_names)
    data = config.data
    example = [names[0]] if config.conditioning._target_.endswith("MultiHot") else names[:2]
    kinds = {
        "data": f"{_class_name(data)}, {data.channels} x {data.image_size} x {data.image_size}",
        "labels": f"{len(names)}: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}",
        "training": f"{checkpoint['step']} steps of {config.trainer.batch_size} images",
        "weights": "averaged over training" if weights == "ema" else "those of the last step",
        "network": f"{_class_name(config.model)}, "
        f"{sum(p.numel() for p in denoiser.parameters()) / 1e6:.2f} million parameters",
        "recipe": ", ".join(
            f"{key} {_class_name(config[key])}"
            for key in ("schedule", "prediction", "weighting", "times", "conditioning")
        ),
        "sampler": f"{_class_name(config.sampler)}, {config.sampler.steps} steps",
    }
    figures = _figures(run, checkpoint["step"])
    return "\n".join(
        [
            "# A class-conditional diffusion model",
            "",
            "```python",
            "import ccdiff",
            'model = ccdiff.load("path/to/this/folder")',
            f"images = model.sample({example!r}, num_per_label=4, seed=0)",
            "print(images.shape, images.dtype)  # uint8 [N, C, H, W]",
            "```",
            "",
            *_table("", kinds),
            "",
            *(_table("last figures", figures) if figures else ["No figures were logged."]),
            "",
            f"`{_CONFIG}` holds the whole config that it was trained with.",
            "",
        ]
    )


def _class_name(node: DictConfig) -> str:
    return node._target_.rpartition(".")[2]


def _table(title: str, rows: dict[str, str]) -> Sequence[str]:
    """A Markdown table; bars and line breaks of names would end its cells."""
    cells = {key: value.replace("|", "\\|").replace("\n", " ") for key, value in rows.items()}
    return [
        f"| {title} | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in cells.items()),
    ]


def _figures(run: Run, step: int) -> dict[str, str]:
    """The last value of each figure up to ``step`` that tells of the model."""
    rows = read_metrics(run.metrics) if run.metrics.exists() else []
    last: dict[str, str] = {}
    for row in rows:
        for key, value in row.items():
            told = row["step"] <= step and "/" in key
            if told and not key.startswith(_OF_TRAINING):
                last[f"`{key}`"] = f"{value:.4g} (step {row['step']})"
    return last
