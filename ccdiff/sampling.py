"""Samples from a trained run: everything about the model comes from its checkpoint."""

import logging
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ccdiff.compose import instantiate
from ccdiff.durable import write_whole
from ccdiff.errors import UserError
from ccdiff.generation import sample_seeds
from ccdiff.labels import parse_labels
from ccdiff.runs import Run
from ccdiff.trained import open_run
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
    for key in ("num_per_label", "batch_size"):
        if cfg[key] < 1:
            raise UserError(f"{key} must be at least 1, got {cfg[key]}")
    trained = open_run(cfg)
    out = _output_folder(cfg.out, trained.run)
    request = OmegaConf.to_container(cfg.labels) if OmegaConf.is_config(cfg.labels) else cfg.labels
    y, drop, titles = parse_labels(request, trained.denoiser.conditioning)
    generator = trained.generator(cfg, instantiate(cfg.sampler))
    each = partial(_repeat, times=cfg.num_per_label)
    labels = each(y)
    images, frames = generator(
        trained.denoiser,
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
    write_whole(
        out / "samples.npz",
        lambda file: np.savez_compressed(file, images=arrays, labels=labels.numpy()),
    )
