"""Samples from a trained run: everything about the model comes from its checkpoint."""

import logging
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ccdiff.compose import instantiate, trained_config, trained_denoiser
from ccdiff.errors import UserError
from ccdiff.generation import Generator, sample_seeds
from ccdiff.labels import parse_labels
from ccdiff.runs import Run, find_checkpoint, run_of
from ccdiff.training.checkpoints import load_checkpoint
from ccdiff.training.device import autocast_dtype, pick_device
from ccdiff.visual import grid, save_gif, save_png

__all__ = ["run_sampling"]

log = logging.getLogger(__name__)

_FRAMES = 40
_FILM_ROWS = 16


def run_sampling(cfg: DictConfig) -> Path:
    """Draws the samples that ``cfg`` asks for.

    Returns:
        The folder that holds ``grid.png``, ``denoising.gif``, ``images/*.png`` and
        ``samples.npz`` with ``images`` (uint8 [N, H, W, C]) and ``labels`` ([N] or [N, K]).

    Raises:
        UserError: Where the run, a label or the folder will not do.
    """
    if cfg.run is None:
        raise UserError("which run? pass run=<run directory>, run=<checkpoint> or run=latest")
    for key in ("num_per_label", "batch_size"):
        if cfg[key] < 1:
            raise UserError(f"{key} must be at least 1, got {cfg[key]}")
    path = find_checkpoint(cfg.run)
    out = _output_folder(cfg.out, run_of(path))
    checkpoint = load_checkpoint(path)
    trained = trained_config(checkpoint)
    denoiser = trained_denoiser(checkpoint, weights=cfg.weights)
    request = OmegaConf.to_container(cfg.labels) if OmegaConf.is_config(cfg.labels) else cfg.labels
    y, drop, titles = parse_labels(request, denoiser.conditioning)
    device = pick_device(cfg.device)
    denoiser.to(device).autocast_dtype = autocast_dtype(cfg.precision, device)
    log.info("sampling from %s (step %d) on %s", path, checkpoint["step"], device)

    generator = Generator(
        sampler=instantiate(cfg.sampler),
        guidance=instantiate(cfg.guidance),
        threshold=instantiate(cfg.threshold),
        schedule=instantiate(cfg.schedule) if cfg.schedule else None,
        image_shape=(trained.data.channels, trained.data.image_size, trained.data.image_size),
        batch_size=cfg.batch_size,
    )
    each = partial(_repeat, times=cfg.num_per_label)
    labels = each(y)
    images, frames = generator(
        denoiser,
        labels,
        None if drop is None else each(drop),
        seeds=sample_seeds(cfg.seed, titles, cfg.num_per_label),
        num_frames=_FRAMES,
        progress=partial(tqdm, unit="batch", disable=None),
    )
    _write(out, images, frames, labels, titles, cfg.num_per_label)
    log.info("%d samples are in %s", len(images), out)
    return out


def _repeat(rows: Tensor, *, times: int) -> Tensor:
    return rows.repeat_interleave(times, dim=0)


def _output_folder(out: str | None, run: Run) -> Path:
    """The folder asked for, or the first free number under ``generated/`` of the run."""
    if out is None:
        taken = [int(p.name) for p in (run.path / "generated").glob("*") if p.name.isdigit()]
        return run.path / "generated" / f"{max(taken, default=0) + 1:03d}"
    folder = Path(out).expanduser()
    if (folder / "samples.npz").exists():
        raise UserError(f"out={out} already holds samples: pass another folder, or none")
    return folder


def _file_name(row: int, title: str, column: int) -> str:
    """A label may hold anything; a file name only letters, digits, dots and dashes."""
    return f"{row:03d}_{re.sub('[^A-Za-z0-9.-]+', '-', title)[:60]}_{column:04d}.png"


def _write(
    out: Path, images: Tensor, frames: Tensor, labels: Tensor, titles: Sequence[str], columns: int
) -> None:
    (out / "images").mkdir(parents=True, exist_ok=True)
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    for i, array in enumerate(arrays):
        row, column = divmod(i, columns)
        picture = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
        save_png(picture, out / "images" / _file_name(row, titles[row], column))
    save_png(grid(images, columns=columns, titles=titles), out / "grid.png")
    shown = slice(0, _FILM_ROWS * columns)
    film = [grid(f[shown], columns=columns, titles=titles[:_FILM_ROWS]) for f in frames]
    save_gif(film, out / "denoising.gif")
    # Last and at once: where samples.npz is, everything else is too.
    partial_file = out / ".samples.partial.npz"
    np.savez_compressed(partial_file, images=arrays, labels=labels.numpy())
    os.replace(partial_file, out / "samples.npz")
