"""Samples of some settings of a study side by side, from the grids that its runs have kept.

``python -m tests.documentation.study_grids <folder> <picture.png> "<setting>: <title>" ...``
names settings as the table of :mod:`tests.documentation.study` does, ``the recipe`` among them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from ccdiff.compare.read import Job, find_runs, read_job
from ccdiff.pictures import PAPER, grid, save_png
from tests.documentation.study import AGREEMENT, title_of
from tests.headings import headed

__all__ = ["side_by_side"]

_GAP = 8
_SEED = 0


def side_by_side(folder: Path, shown: dict[str, str]) -> Image.Image:
    """The last grids of the first seed, each under its title and its label agreement.

    Arguments:
        folder: Of the sweep.
        shown: Title by setting, from left to right.

    Raises:
        SystemExit: For a setting that the first seed has no finished run of.
    """
    found = {}
    for run in find_runs([folder]):
        job = read_job(run)
        if job.problem is None and job.config["seed"] == _SEED:
            found[title_of(run.path.name)] = job
    if lacking := [setting for setting in shown if setting not in found]:
        raise SystemExit(f"error: no finished run of seed {_SEED}: {', '.join(lacking)}")
    strips = [Image.open(_last_grid(found[setting])).convert("RGB") for setting in shown]
    # Rows have their titles once, at the very left.
    margin = strips[0].width - _images_width(found[next(iter(shown))])
    strips[1:] = [strip.crop((margin, 0, *strip.size)) for strip in strips[1:]]
    width = sum(strip.width + _GAP for strip in strips) - _GAP
    sheet = Image.new("RGB", (width, max(strip.height for strip in strips)), PAPER)
    heads, left = {}, 0
    for (setting, title), strip in zip(shown.items(), strips, strict=True):
        sheet.paste(strip, (left, 0))
        middle = left + strip.width / 2 if left else (margin + strip.width) / 2
        heads[middle] = f"{title}\n{100 * found[setting].results[AGREEMENT]:.0f} %"
        left += strip.width + _GAP
    return headed(sheet, heads, height=34, size=12, anchor="mm")


def _last_grid(job: Job) -> Path:
    return max((job.run.path / "samples").glob("ema_*.png"))


def _images_width(job: Job) -> int:
    """Pixels that the images of a row take, one of them measured as grids are made."""
    side, columns = job.config["data.image_size"], job.config["trainer.samples_per_label"]
    return grid(torch.zeros(columns, 1, side, side, dtype=torch.uint8), columns=columns).width


def main(arguments: Sequence[str]) -> None:
    """Reads a folder and draws the picture."""
    folder, out, *settings = arguments
    shown = dict(setting.split(": ", 1) for setting in settings)
    # A palette, as coloured noise takes four times as many bytes in full.
    save_png(side_by_side(Path(folder), shown).quantize(128), Path(out))


if __name__ == "__main__":
    main(sys.argv[1:])
