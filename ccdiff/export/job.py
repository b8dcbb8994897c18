"""Writes an export: weights as safetensors, config, and a card that tells of the model.

safetensors holds tensors and nothing else, so reading it runs no code:
https://github.com/huggingface/safetensors.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from ccdiff.config.build import image_shape_of, instantiate
from ccdiff.diffusion.conditioning import Conditioning, MultiHot
from ccdiff.diffusion.continuous import Continuous
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.samplers import check_sampler
from ccdiff.errors import UserError
from ccdiff.export.onnx import GRAPH_FILE, check_installed, graph_of
from ccdiff.export.static import check_page, write_page
from ccdiff.runs.checkpoints import Checkpoint, open_checkpoint
from ccdiff.runs.folder import Run, refuse_filled, run_of
from ccdiff.runs.log import read_metrics
from ccdiff.system.atomic import write_text, write_whole
from ccdiff.system.text import markdown
from ccdiff.trained.grids import fill_in_grid
from ccdiff.trained.model import CONFIG_FILE, WEIGHTS_FILE
from ccdiff.trained.run import new_folder, trained_config, trained_denoiser

__all__ = ["run_export"]

log = logging.getLogger(__name__)

_CARD = "README.md"
_FORMAT = "1"
_FORMATS = ("safetensors", "onnx", "web")
_WEIGHTS = {"ema": "averaged over training", "raw": "those of the last step"}
_OF_TRAINING = (
    *("train/lr", "train/images_seen", "train/images_per_second", "train/flops_per_second"),
    *("train/mfu", "time/"),
)
"""How the keys of figures begin that do not tell of the model."""


def run_export(cfg: DictConfig) -> Path:
    """Writes weights, config and card.

    Returns:
        The folder.

    Raises:
        UserError: Where the run or the folder will not do.
    """
    from safetensors.torch import save

    refuse_filled(cfg.out)
    if cfg.format not in _FORMATS:
        raise UserError(f"format must be one of {', '.join(_FORMATS)}, got {cfg.format}")
    if cfg.format != "safetensors":
        check_installed()
    if cfg.run is None:
        raise UserError("which run? pass run=<run directory>, run=<checkpoint> or run=latest")
    path, checkpoint = open_checkpoint(cfg.run)
    denoiser = trained_denoiser(checkpoint, weights=cfg.weights, run=run_of(path))
    config = trained_config(checkpoint)
    if cfg.sampler:
        fill_in_grid(cfg.sampler, run_of(path))
        # Refused here, if at all, and not where it is loaded.
        check_sampler(instantiate(cfg.sampler), denoiser)
        config.sampler = cfg.sampler
    # The format takes contiguous tensors that share no memory.
    plain = torch.contiguous_format
    state = {k: v.clone(memory_format=plain) for k, v in denoiser.state_dict().items()}
    about = {"format": _FORMAT, "step": str(checkpoint["step"]), "weights": cfg.weights}
    run = run_of(path)
    if cfg.format != "safetensors":
        return _graph(cfg, config, denoiser, run)
    out = new_folder(cfg.out, run.path / "exported", config)
    write_whole(out / WEIGHTS_FILE, lambda file: file.write(save(state, metadata=about)))
    card = _card(config, checkpoint, run, denoiser, weights=cfg.weights)
    write_text(out / _CARD, card)
    log.info("exported %s to %s", path, out)
    return out


def _graph(cfg: DictConfig, config: DictConfig, denoiser: Denoiser, run: Run) -> Path:
    """Writes the graph, and with ``format=web`` the page that runs it."""
    if cfg.format == "web":
        check_page(config, denoiser, cfg.runtime)
    graph = graph_of(denoiser, image_shape_of(config))
    out = new_folder(cfg.out, run.path / "exported", config)
    write_whole(out / GRAPH_FILE, lambda file: file.write(graph))
    if cfg.format == "web":
        write_page(config, denoiser, out, cfg.runtime)
        log.info("to see it: python -m http.server -d %s", out)
    log.info("exported to %s", out)
    return out


def _card(
    config: DictConfig, checkpoint: Checkpoint, run: Run, denoiser: Denoiser, *, weights: str
) -> str:
    """What somebody who was handed the folder wants to know, as Markdown."""
    names = list(denoiser.conditioning.label_names)
    data = config.data
    example = _example(denoiser.conditioning)
    kinds = {
        "data": f"{_class_name(data)}, {' x '.join(map(str, image_shape_of(config)))}",
        "labels": f"{len(names)}: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}",
        "training": f"{checkpoint['step']} steps of {config.trainer.batch_size} images",
        "weights": _WEIGHTS.get(weights, f"averaged over training, with a width of {weights}"),
        "network": f"{_class_name(config.model)}, "
        f"{sum(p.numel() for p in denoiser.parameters()) / 1e6:.2f} million parameters",
        "recipe": ", ".join(
            f"{key} {_class_name(config[key])}"
            for key in (
                *("schedule", "prediction", "objective"),
                *("weighting", "times", "conditioning"),
            )
        ),
        "sampler": f"{instantiate(config.sampler).name}, {config.sampler.steps} steps",
    }
    figures = _figures(run, checkpoint["step"])
    return "\n".join(
        [
            "# A class-conditional diffusion model",
            "",
            "```python",
            "import ccdiff",
            'model = ccdiff.load("path/to/this/folder")',
            f"images = model.sample({example!a}, num_per_label=4, seed=0)",
            'images.save("grid.png")',
            "```",
            "",
            *_table("", kinds),
            "",
            *(_table("last figures", figures) if figures else ["No figures were logged."]),
            "",
            f"`{CONFIG_FILE}` holds the whole config that it was trained with.",
            "",
        ]
    )


def _example(conditioning: Conditioning) -> Sequence[Any]:
    """Labels to try the model with."""
    names = conditioning.label_names
    if isinstance(conditioning, Continuous):
        pairs = zip(names, conditioning.mean.tolist(), strict=True)
        return [{name: float(f"{mean:.3g}") for name, mean in pairs}]
    return list(names[:1] if isinstance(conditioning, MultiHot) else names[:2])


def _class_name(node: DictConfig) -> str:
    return node._target_.rpartition(".")[2]


def _table(title: str, rows: dict[str, str]) -> Sequence[str]:
    """A Markdown table; names of data are text in it, not markup."""
    return [
        f"| {title} | |",
        "|---|---|",
        *(f"| {markdown(key)} | {markdown(value)} |" for key, value in rows.items()),
    ]


def _figures(run: Run, step: int) -> dict[str, str]:
    """The last value of each figure up to ``step`` that tells of the model."""
    if not run.metrics.exists():
        log.warning("there is no %s: the card states no figures", run.metrics)
    rows = read_metrics(run.metrics)
    last: dict[str, str] = {}
    for row in rows:
        for key, value in row.items():
            told = row["step"] <= step and "/" in key
            if told and not key.startswith(_OF_TRAINING):
                last[key] = f"{value:.4g} (step {row['step']})"
    return last
