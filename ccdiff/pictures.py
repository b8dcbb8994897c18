"""Pictures of samples: labelled grids, scatter plots of points, and GIFs, as PIL images."""

import colorsys
import functools
import importlib.util
import io
import logging
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ccdiff.system.atomic import write_whole

__all__ = [
    "INK",
    "PAPER",
    "SHOWN_COLUMNS",
    "columns_shown",
    "font",
    "grid",
    "picture",
    "places_shown",
    "png",
    "save_gif",
    "save_png",
    "sheet",
]

log = logging.getLogger(__name__)

SHOWN_COLUMNS = 16
"""Most columns of a picture of samples: a GIF is at most 65,535 pixels wide."""

_CELL = 56
_GAP = 2
INK, PAPER = (30, 30, 30), (255, 255, 255)
"""Colours of letters and of the ground."""
_MAX_TITLE = 28
_IN_NO_FONT = "\U0010ffff"
_PLOT, _FINER = 420, 3
"""Pixels of a scatter plot, and by how much finer it is drawn before."""
_HALF_WIDTH = 1.25
"""What a scatter plot shows of the plane, from the origin; the same in every frame of a film."""
_DOT = 0.011


def _zoom(size: int) -> int:
    """Whole-number enlargement that brings small images to a size that can be looked at."""
    return max(1, -(-_CELL // size))


def picture(image: Tensor) -> Image.Image:
    """One uint8 image [C, H, W] with its own pixels, gray or RGB."""
    array = image.cpu().permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Pillow's own font has no letter beyond ASCII."""
    matplotlib = importlib.util.find_spec("matplotlib")
    assert matplotlib is not None, "it is a dependency"
    assert matplotlib.origin is not None
    fonts = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), size)


def _drawable(title: str, letters: ImageFont.FreeTypeFont) -> str:
    """A title as it can be drawn: one line, not too long, of letters that the font has."""
    text = unicodedata.normalize("NFC", title)
    text = "".join(c if _known(c, letters) else _written_out(c) for c in text)
    return text if len(text) <= _MAX_TITLE else text[:_MAX_TITLE] + "…"


@functools.cache
def _known(letter: str, letters: ImageFont.FreeTypeFont) -> bool:
    """Whether the font has it, and does not draw the box that stands for all others."""
    if not letter.isprintable():
        return False
    return (
        bytes(letters.getmask(letter)) != bytes(letters.getmask(_IN_NO_FONT)) or letter.isspace()
    )


@functools.cache
def _written_out(letter: str) -> str:
    """What stands for a letter that the font has not; said once."""
    code = letter.encode("unicode_escape", "surrogatepass").decode()
    if letter.isprintable():
        log.warning("the font of pictures has no %s: titles show it as %s", letter, code)
    return code


def grid(images: Tensor, *, columns: int, titles: Sequence[str] = ()) -> Image.Image:
    """Lays images out in rows, each with its title on the left; points make one scatter plot.

    Small images are enlarged by a whole factor without smoothing, so pixels stay pixels.

    Arguments:
        images: uint8 [N, C, H, W], row by row; or points, float [N, 2, 1, 1].
        columns: Images per row.
        titles: One per row, or none.
    """
    if images.is_floating_point():
        return _scatter(images.flatten(1), columns=columns, titles=titles)
    rows = -(-len(images) // columns)
    zoom = _zoom(images.shape[-1])
    height, width = images.shape[-2] * zoom, images.shape[-1] * zoom
    letters = font(max(12, min(20, height // 4)))
    short = [_drawable(title, letters) for title in titles]
    margin = max((int(letters.getlength(title)) + 12 for title in short), default=0)
    size = (margin + columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP)
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for row, title in enumerate(short):
        middle = row * (height + _GAP) + _GAP + height // 2
        draw.text((6, middle), title, fill=INK, font=letters, anchor="lm")
    for i, image in enumerate(images):
        left = margin + (i % columns) * (width + _GAP) + _GAP
        top = (i // columns) * (height + _GAP) + _GAP
        canvas.paste(picture(image).resize((width, height), Image.Resampling.NEAREST), (left, top))
    return canvas


def sheet(rows: Sequence[Tensor], *, columns: int, titles: Sequence[str]) -> Image.Image:
    """Lays rows of images out that may be of unequal length, with white where one is shorter.

    Arguments:
        rows: uint8 [n, C, H, W] each, or points, float [n, 2, 1, 1], n at most ``columns``; at
            least one row.
        columns: Images per row.
        titles: One per row.
    """
    # Of points what lies outside of the plot, in place of white.
    white = math.inf if rows[0].is_floating_point() else 255
    cells = rows[0].new_full((len(rows), columns, *rows[0].shape[1:]), white)
    for row, images in zip(cells, rows, strict=True):
        row[: len(images)] = images
    return grid(cells.flatten(0, 1), columns=columns, titles=titles)


def _scatter(points: Tensor, *, columns: int, titles: Sequence[str]) -> Image.Image:
    """Points [N, 2] of the plane, a colour for each row, whose titles are on the left.

    Those further out than 1.25 from the axes are left out.
    """
    rows = -(-len(points) // columns)
    letters = font(15)
    short = [_drawable(title, letters) for title in titles]
    margin = max((int(letters.getlength(title)) + 28 for title in short), default=0)
    side = _FINER * _PLOT
    plot = Image.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(plot)
    for x in (-1, 0, 1):
        at = side * (x + _HALF_WIDTH) / (2 * _HALF_WIDTH)
        draw.line([(at, 0), (at, side)], fill=(232,) * 3, width=_FINER)
        draw.line([(0, at), (side, at)], fill=(232,) * 3, width=_FINER)
    colours = [_colour(row, rows) for row in range(rows)]
    scale, radius = side / (2 * _HALF_WIDTH), side * _DOT / 2
    # Row by row the last would hide the others, where they lie on each other.
    order = sorted(range(len(points)), key=lambda i: i % columns)
    places = points.cpu().tolist()
    for i in order:
        x, y = ((_HALF_WIDTH + places[i][0]) * scale, (_HALF_WIDTH - places[i][1]) * scale)
        if max(map(abs, places[i])) <= _HALF_WIDTH:
            box = [x - radius, y - radius, x + radius, y + radius]
            draw.ellipse(box, fill=colours[i // columns])
    height = max(_PLOT, 22 * len(short) + 8)
    canvas = Image.new("RGB", (margin + _PLOT, height), PAPER)
    canvas.paste(plot.resize((_PLOT, _PLOT), Image.Resampling.BOX), (margin, 0))
    legend = ImageDraw.Draw(canvas)
    for row, title in enumerate(short):
        middle = 22 * row + 15
        legend.ellipse([6, middle - 5, 16, middle + 5], fill=colours[min(row, rows - 1)])
        legend.text((22, middle), title, fill=INK, font=letters, anchor="lm")
    return canvas


def _colour(row: int, rows: int) -> tuple[int, int, int]:
    """Hues evenly spread over the rows, of two brightnesses by turns."""
    red, green, blue = colorsys.hsv_to_rgb(row / rows, 0.85, 0.85 if row % 2 else 0.65)
    return round(255 * red), round(255 * green), round(255 * blue)


def columns_shown(columns: int, *, points: bool, most: int = SHOWN_COLUMNS) -> int:
    """How many of the columns a picture shows: of points all, of images at most so many."""
    return columns if points else min(columns, most)


def places_shown(
    numbers: range, columns: int, *, rows: int, most: int = SHOWN_COLUMNS
) -> list[int]:
    """Which of some images a picture of the first rows and columns shows.

    Arguments:
        numbers: Of the images, which are counted row by row.
        columns: Images per row, in all.
        rows: How many the picture shows.
        most: Columns that it shows at most.

    Returns:
        Places within ``numbers``.
    """
    places = enumerate(divmod(i, columns) for i in numbers)
    return [k for k, (row, column) in places if row < rows and column < most]


def png(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def save_png(image: Image.Image, path: Path, *, about: Mapping[str, str] | None = None) -> None:
    """Writes a PNG whole or not at all; makes the folder.

    Arguments:
        image: The picture.
        path: Where to write.
        about: Texts to keep in the file beside the pixels, by keyword.
    """
    texts = PngInfo()
    for key, text in (about or {}).items():
        texts.add_itxt(key, text)
    write_whole(path, lambda file: image.save(file, format="PNG", pnginfo=texts), durable=False)


def save_gif(
    frames: Sequence[Image.Image], path: Path, *, seconds: float | Sequence[float] = 3.0
) -> None:
    """Writes a looping GIF that rests on its last frame.

    Equal frames in a row become one in the file, shown as long as they are together: who counts
    its frames finds fewer.

    Arguments:
        frames: At least one image, all of one size.
        path: Where to write.
        seconds: From the first frame to the last, or how long each is shown.
    """
    if not isinstance(seconds, Sequence):
        seconds = [*([seconds / len(frames)] * (len(frames) - 1)), 1.5]
    durations = [max(20, round(1000 * each)) for each in seconds]

    def write(file: BinaryIO) -> None:
        frames[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=list(frames[1:]),
            duration=durations,
            loop=0,
        )

    write_whole(path, write, durable=False)
