"""Writes an export: weights as safetensors, config, and a card that tells of the model.

safetensors holds tensors and nothing else, so reading it runs no code:
https://github.com/huggingface/safetensors.
"""

import logging
from pathlib import Path

import torch
from omegaconf import DictConfig

from ccdiff.config.build import image_shape_of, instantiate
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.samplers import check_sampler
from ccdiff.errors import UserError
from ccdiff.export.card import write_card
from ccdiff.export.onnx import GRAPH_FILE, check_installed, graph_of
from ccdiff.export.push import check_push, push
from ccdiff.export.static import check_page, write_page
from ccdiff.runs.checkpoints import open_checkpoint
from ccdiff.runs.exports import WEIGHTS_FILE
from ccdiff.runs.folder import Run, refuse_filled, run_of
from ccdiff.system.atomic import write_whole
from ccdiff.trained.grids import fill_in_grid
from ccdiff.trained.run import new_folder, trained_config, trained_denoiser

__all__ = ["run_export"]

log = logging.getLogger(__name__)

_FORMAT = "1"
_FORMATS = ("safetensors", "onnx", "web")


def run_export(cfg: DictConfig) -> Path:
    """Writes weights, config and card, and pushes them where that is asked for.

    Returns:
        The folder.

    Raises:
        UserError: Where the run or the folder will not do.
    """
    from safetensors.torch import save

    refuse_filled(cfg.out)
    if cfg.format not in _FORMATS:
        raise UserError(f"format must be one of {', '.join(_FORMATS)}, got {cfg.format}")
    sharing = None if cfg.push is None else check_push(cfg)
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
    write_card(out, config, checkpoint, run, denoiser, weights=cfg.weights, sharing=sharing)
    log.info("exported %s to %s", path, out)
    if sharing is not None:
        push(out, sharing, private=cfg.private)
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
