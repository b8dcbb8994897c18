"""Samples from a trained run: everything about the model comes from its checkpoint."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ccdiff.config.build import instantiate
from ccdiff.data import in_plane
from ccdiff.distributed.ranks import is_main
from ccdiff.errors import UserError
from ccdiff.generation.film import FILM_COLUMNS, Frames, film
from ccdiff.generation.images import save_arrays
from ccdiff.generation.labels import parse_labels
from ccdiff.generation.pipeline import sample_seeds
from ccdiff.generation.turns import Advance, by_turns, parts_of
from ccdiff.launch.entry import typed_line
from ccdiff.pictures import SHOWN_COLUMNS, columns_shown, grid, picture, places_shown, save_png
from ccdiff.runs.folder import output_folder, refuse_filled
from ccdiff.system.background import Background
from ccdiff.system.device import compile_mode, explaining_failure
from ccdiff.trained.run import OpenedRun, open_model
from ccdiff.trained.together import auto_batch_size, check_batch_size, together

__all__ = ["run_sampling"]

log = logging.getLogger(__name__)

_FRAMES = 40
_FILM_ROWS = 16


def run_sampling(cfg: DictConfig) -> Path:
    """Draws the samples that ``cfg`` asks for, in as many processes as there are.

    Batches are the same for any number of processes, which draw them by turns.

    Returns:
        The folder that holds ``images/*.png``, ``samples.npz`` as
        :func:`~ccdiff.generation.images.save_arrays` writes it, of the first 16 samples of each
        label ``grid.png``, and of the first 8 of the first 16 labels ``denoising.gif``. Of
        points of the plane there are no images, and the plots show all of them.

    Raises:
        UserError: Where the run, a label or the folder will not do.
    """
    if cfg.num_per_label < 1:
        raise UserError(f"num_per_label must be at least 1, got {cfg.num_per_label}")
    check_batch_size(cfg)
    if is_main():
        refuse_filled(cfg.out)
    with together(cfg) as mine, explaining_failure("compile"):
        return _sample(mine)


def _sample(cfg: DictConfig) -> Path:
    trained = open_model(cfg)
    if mode := compile_mode(cfg.compile, trained.device):
        trained.denoiser.network.compile(mode=mode)
    request = OmegaConf.to_container(cfg.labels) if OmegaConf.is_config(cfg.labels) else cfg.labels
    asked = parse_labels(request, trained.denoiser.conditioning)
    columns, titles = cfg.num_per_label, asked.titles
    y = asked.y.repeat_interleave(columns, dim=0)
    drop = None if asked.drop is None else asked.drop.repeat_interleave(columns, dim=0)
    seeds = sample_seeds(cfg.seed, titles, columns)
    pipeline = trained.pipeline(cfg, instantiate(cfg.sampler))
    if cfg.batch_size == "auto":
        pipeline = replace(
            pipeline, batch_size=auto_batch_size(pipeline, trained.denoiser, y, drop)
        )

    # After all that may be refused, which so leaves no folder, and before the work.
    place = trained.run.path if isinstance(trained, OpenedRun) else Path()
    out = output_folder(cfg.out, place / "generated") if is_main() else Path()

    points = in_plane(trained.image_shape)
    filmed_columns = columns_shown(columns, most=FILM_COLUMNS, points=points)

    def draw(numbers: range, advance: Advance) -> tuple[Tensor, Frames]:
        """Some images, and the frames of those that the film shows."""
        here = slice(numbers.start, numbers.stop)
        filmed = places_shown(numbers, columns, rows=_FILM_ROWS, most=filmed_columns)
        images, frames = pipeline(
            trained.denoiser,
            y[here],
            None if drop is None else drop[here],
            seeds=seeds[here],
            num_frames=_FRAMES if filmed else 0,
            on_step=advance,
        )
        return images, frames.of(filmed)

    images, films = [], []
    with Background() as background:
        parts = parts_of(range(len(y)), pipeline.batch_size)
        for part, (batch, film) in by_turns(parts, draw, steps=pipeline.sampler.steps):
            if not points:
                background(
                    partial(_write_pngs, out / "images", batch, part, titles, columns, cfg.seed)
                )
            images.append(batch)
            films += [film] if len(film.x_t) else []
    if is_main():
        _write(out, torch.cat(images), Frames.cat(films), y, titles, columns)
        left_out = _left_out(len(titles), columns, points=points)
        log.info("%d samples are in %s%s", len(y), out, left_out)
    return out


def _left_out(rows: int, columns: int, *, points: bool) -> str:
    """What the pictures do not show, for the log; nothing where they show everything."""
    left_out = []
    if columns > columns_shown(columns, points=points):
        left_out.append(f"grid.png shows the first {SHOWN_COLUMNS} of each label")
    if columns > columns_shown(columns, most=FILM_COLUMNS, points=points):
        left_out.append(f"denoising.gif shows the first {FILM_COLUMNS} of each label")
    if rows > _FILM_ROWS:
        left_out.append(f"denoising.gif shows the first {_FILM_ROWS} labels")
    return f" ({', '.join(left_out)})" if left_out else ""


def _file_name(row: int, title: str, column: int) -> str:
    """A label may hold anything; a file name only letters, digits, dots and dashes."""
    return f"{row:03d}_{re.sub('[^A-Za-z0-9.-]+', '-', title)[:60]}_{column:04d}.png"


def _write_pngs(
    folder: Path,
    images: Tensor,
    numbers: range,
    titles: Sequence[str],
    columns: int,
    seed: int,
) -> None:
    """Each with what it was asked for, so that a picture by itself tells how it came about."""
    about = {"command": typed_line(), "seed": str(seed)}
    for i, image in zip(numbers, images, strict=True):
        row, column = divmod(i, columns)
        mine = {**about, "label": titles[row], "number": str(column)}
        save_png(picture(image), folder / _file_name(row, titles[row], column), about=mine)


def _write(
    out: Path, images: Tensor, frames: Frames, labels: Tensor, titles: Sequence[str], columns: int
) -> None:
    # At once, and first: a failure in the pictures loses nothing. images/*.png are there already.
    save_arrays(images, labels.numpy(), out / "samples.npz")
    points = images.is_floating_point()
    width = columns_shown(columns, points=points)
    shown = places_shown(range(len(images)), columns, rows=len(titles), most=width)
    save_png(grid(images[shown], columns=width, titles=titles), out / "grid.png")
    filmed = columns_shown(columns, most=FILM_COLUMNS, points=points)
    shown_twice = film(frames, columns=filmed, titles=titles[:_FILM_ROWS])
    shown_twice.save(out / "denoising.gif")
