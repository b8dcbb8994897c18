"""The ideas of a comparison side by side: a row for each, of the same labels and noise.

``python -m tests.benchmarks.ideas_montage <out of the comparison> <data set> <picture.png>`` takes
the first row of each idea's pictures, without guidance at the left, with guidance at the right.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

from ccdiff.errors import UserError
from ccdiff.pictures import INK, PAPER, font, save_png
from tests.benchmarks.ideas_recipes import IDEAS, picture_prefix
from tests.benchmarks.ideas_training import ROWS
from tests.headings import headed

__all__ = ["montage"]

_HEADS = {"drawn": "without guidance", "guided_drawn": "with guidance"}
_STRIP = 330
"""Pixels across a row of one picture."""
_BETWEEN, _TOP, _LETTERS = 16, 28, 15


def montage(out: Path, name: str) -> Image.Image:
    """Puts the first rows of all pictures that a comparison left of a data set below each other.

    Arguments:
        out: The folder of the comparison.
        name: Of the data set.

    Raises:
        UserError: Where it left none.
    """
    strips = {title: _strips(out, name, title) for title in IDEAS}
    strips = {title: found for title, found in strips.items() if found}
    if not strips:
        raise UserError(f"{out / 'pictures'} has no pictures of {name}")
    letters = font(_LETTERS)
    margin = max(int(letters.getlength(title)) for title in strips) + 18
    height = max(strip.height for found in strips.values() for strip in found.values())
    lefts = {kind: margin + k * (_STRIP + _BETWEEN) for k, kind in enumerate(_HEADS)}
    size = (max(lefts.values()) + _STRIP, height * len(strips))
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for row, (title, found) in enumerate(strips.items()):
        top = row * height
        draw.text((6, top + height // 2), title, fill=INK, font=letters, anchor="lm")
        for kind, strip in found.items():
            canvas.paste(strip, (lefts[kind], top))
    heads = {lefts[kind]: head for kind, head in _HEADS.items()}
    return headed(canvas, heads, height=_TOP, size=_LETTERS)


def _strips(out: Path, name: str, title: str) -> dict[str, Image.Image]:
    """The first row of each picture of an idea, all of one width."""
    prefix, found = picture_prefix(out, name, title), {}
    for kind in _HEADS:
        path = prefix.with_name(f"{prefix.name}-{kind}.png")
        if path.is_file():
            with Image.open(path) as image:
                whole = image.convert("RGB")
            row = whole.crop((0, 0, whole.width, whole.height // ROWS))
            size = (_STRIP, round(row.height * _STRIP / row.width))
            found[kind] = row.resize(size, Image.Resampling.LANCZOS)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="where the comparison wrote")
    parser.add_argument("name", help="data set, such as mnist")
    parser.add_argument("picture", type=Path, help="PNG to write")
    args = parser.parse_args()
    try:
        save_png(montage(args.out, args.name), args.picture)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
