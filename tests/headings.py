"""A line above pictures for documentation that says what their columns are."""

from collections.abc import Mapping

from PIL import Image, ImageDraw

from ccdiff.pictures import INK, PAPER, font

__all__ = ["headed"]


def headed(
    picture: Image.Image, heads: Mapping[float, str], *, height: int, size: int, anchor: str = "lm"
) -> Image.Image:
    """The picture under a strip of paper with texts.

    Arguments:
        picture: In RGB.
        heads: Texts, of one line or more, by where they stand from the left, in pixels.
        height: Of the strip, in pixels.
        size: Of the letters.
        anchor: Of a text at its place, as Pillow names it: ``lm`` begins there, ``mm`` is centred.
    """
    sheet = Image.new("RGB", (picture.width, picture.height + height), PAPER)
    sheet.paste(picture, (0, height))
    draw = ImageDraw.Draw(sheet)
    for place, text in heads.items():
        at = (place, height / 2)
        draw.text(at, text, fill=INK, font=font(size), anchor=anchor, align="center")
    return sheet
