"""From the bytes of an image file to uint8 pixels, or to a plain reason why not.

The picture is turned as its EXIF orientation says, laid on a background where it is transparent,
cropped about its middle to the wanted shape and resized with Lanczos' antialiasing filter. Gray of
more than 8 bits is scaled by what the set uses. Of an animation the first frame is taken; colour
profiles are not applied.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from stat import S_ISREG

import numpy as np
from PIL import Image, ImageColor, UnidentifiedImageError

from ccdiff.data.files.resize import resize
from ccdiff.errors import UserError

__all__ = [
    "EXTENSIONS",
    "MAX_BYTES",
    "BadImage",
    "PixelSettings",
    "decode",
    "gray_max",
    "looks_like_image",
    "parse_color",
    "read_file",
]

# Formats whose decoders read pixels and nothing else: no PostScript, no references to files.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_ENDINGS = "jpg jpeg jfif jpe png webp bmp gif tif tiff ppm pgm pnm pbm"
EXTENSIONS = frozenset(f".{ending}" for ending in _ENDINGS.split())
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_ROUNDING = 1e-6
# PIL's own bound on what it decodes without a warning: a quarter of a gibibyte of RGB.
_MAX_PIXELS = 89_478_485
MAX_BYTES = 1 << 28

# EXIF 2.3, tag 0x0112: how the stored picture must be turned to stand upright.
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (
    *(Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270),
    *(Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90),
)


@dataclass(frozen=True, kw_only=True)
class PixelSettings:
    """What a pixel depends on besides the file.

    Arguments:
        image_size: Height and width.
        channels: 1 (gray) or 3 (RGB).
        background: What shows through where the image is transparent.
        decode: ``exact`` decodes every pixel before it resizes; ``fast`` has JPEG decoded at a
            half, a quarter or an eighth of its size, as far as that is no smaller than wanted, and
            resizes by torch, see :func:`~ccdiff.data.files.resize.resize`.
        gray_max: The white of gray files of 16 bits, see :func:`gray_max`.
    """

    image_size: tuple[int, int]
    channels: int
    background: tuple[int, int, int]
    decode: str = "exact"
    gray_max: int = 65535

    def __post_init__(self) -> None:
        if self.decode not in ("exact", "fast"):
            raise UserError(f"data.decode must be exact or fast, got {self.decode!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return self.channels, *self.image_size

    @property
    def title(self) -> str:
        """The size, short, for a name."""
        height, width = self.image_size
        return f"{height}px" if height == width else f"{height}x{width}px"

    @property
    def row_bytes(self) -> int:
        """Of one image."""
        return self.channels * self.image_size[0] * self.image_size[1]


class BadImage(Exception):
    """A file that cannot be used; the message says why, in a few words."""


def parse_color(color: str | Sequence[int]) -> tuple[int, int, int]:
    """Red, green and blue of a colour name, ``"#rrggbb"`` or three numbers from 0 to 255.

    Raises:
        UserError: Where it is none of these.
    """
    try:
        rgb = ImageColor.getrgb(color)[:3] if isinstance(color, str) else tuple(color)
    except ValueError:
        rgb = ()
    if len(rgb) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in rgb):
        raise UserError(
            f"data.background must be a colour name, '#rrggbb' or three numbers from 0 to 255, "
            f"got {color!r}"
        )
    return rgb[0], rgb[1], rgb[2]


def looks_like_image(begin: bytes) -> bool:
    """Whether a file that begins so is an image in one of the formats that are decoded."""
    if begin.startswith(_BEGINNINGS) or (begin[:4] == b"RIFF" and begin[8:12] == b"WEBP"):
        return True
    return (
        len(begin) > 2 and begin[:1] == b"P" and begin[1:2] in b"123456" and begin[2:3].isspace()
    )


def read_file(root: Path, name: str) -> bytes:
    """The bytes of a regular file inside ``root``.

    Arguments:
        root: A resolved folder.
        name: Path of the file relative to it.

    Raises:
        BadImage: Where there is no such file, or it lies outside, directly or by a link.
    """
    try:
        path = (root / name).resolve(strict=True)
        if not path.is_relative_to(root):
            raise BadImage("leads out of the folder")
        status = path.stat()
        if not S_ISREG(status.st_mode):
            raise BadImage("not a regular file")
        if status.st_size == 0:
            raise BadImage("empty file")
        if status.st_size > MAX_BYTES:
            raise BadImage(f"file of {status.st_size / 2**20:.0f} MiB, too large for an image")
        return path.read_bytes()
    except FileNotFoundError:
        raise BadImage("no such file") from None
    # Before Python 3.13 a loop of links is a RuntimeError; a null byte is a ValueError.
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadImage(f"cannot be read: {reason}") from None


def decode(data: bytes | np.ndarray, settings: PixelSettings) -> tuple[np.ndarray, bool]:
    """Decodes one image.

    Arguments:
        data: The file's bytes; its content decides on the format, not its name. Or pixels, uint8
            [H, W], [H, W, 1] or [H, W, 3].
        settings: What to make of it.

    Returns:
        Pixels, uint8 [C, H, W], and whether the source was smaller than that.

    Raises:
        BadImage: Where the bytes are no image, a damaged one or one too large to decode.
    """
    try:
        with _open(data) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise BadImage(f"{image.width} x {image.height} pixels: a decompression bomb")
            height, width = settings.image_size
            if settings.decode == "fast":
                smaller = _shrink(image, height=height, width=width)
            image.load()
            picture = _flatten(_upright(image), settings)
        picture = picture.crop(_centre(picture.size, height=height, width=width))
        if settings.decode == "exact":
            smaller = picture.height < height or picture.width < width
        fast = settings.decode == "fast"
        picture = resize(picture, height=height, width=width, fast=fast)
        pixels = np.asarray(picture if settings.channels == 3 else picture.convert("L"))
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage("not an image in a known format") from None
    except Image.DecompressionBombError:
        raise BadImage("a decompression bomb") from None
    # Decoders raise almost anything on malformed bytes.
    except Exception as error:
        raise BadImage(f"damaged: {error or type(error).__name__}") from None
    pixels = pixels.transpose(2, 0, 1) if settings.channels == 3 else pixels[None]
    return np.ascontiguousarray(pixels), smaller


def _centre(size: tuple[int, int], *, height: int, width: int) -> tuple[int, int, int, int]:
    """The largest box about the middle of a picture that has the wanted shape.

    Arguments:
        size: Width and height of the picture.
        height: Wanted, as is the ``width``; only their ratio counts.
    """
    across = min(size[0], max(1, size[1] * width // height))
    down = min(size[1], max(1, size[0] * height // width))
    left, top = (size[0] - across) // 2, (size[1] - down) // 2
    return left, top, left + across, top + down


def _open(data: bytes | np.ndarray) -> Image.Image:
    if isinstance(data, np.ndarray):
        return Image.fromarray(data[..., 0] if data.ndim == 3 and data.shape[2] == 1 else data)
    return Image.open(BytesIO(data), formats=_FORMATS)


def _shrink(image: Image.Image, *, height: int, width: int) -> bool:
    """Has a JPEG decoded small, by libjpeg's scaled inverse transform; not smaller than wanted.

    Returns:
        Whether the picture was smaller than wanted to begin with.
    """
    turned = _turn(image) in _SIDEWAYS
    size = image.size[::-1] if turned else image.size
    left, top, right, bottom = _centre(size, height=height, width=width)
    scale = max(height / (bottom - top), width / (right - left))
    if scale < 1:
        wanted = (math.ceil(side * scale - _ROUNDING) for side in image.size)
        image.draft(None, (next(wanted), next(wanted)))
    return scale > 1


def gray_max(data: bytes | np.ndarray) -> int:
    """The largest value of a gray image of 16 bits; 0 for any other image, and for none."""
    if isinstance(data, np.ndarray):
        return 0
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as image:
            if not image.mode.startswith("I") or image.width * image.height > _MAX_PIXELS:
                return 0
            return int(np.asarray(image).max())
    # What cannot be decoded is told when it is prepared.
    except Exception:
        return 0


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How EXIF says that the stored picture must be turned to stand upright."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        # The pixels are sound; only their description is not.
        return None


def _upright(image: Image.Image) -> Image.Image:
    """The picture as its EXIF orientation says, as it is where that cannot be read."""
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _flatten(image: Image.Image, settings: PixelSettings) -> Image.Image:
    """RGB with 8 bits, on the background where the picture is transparent."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_16_bit(image, settings.gray_max).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(
        Image.new("RGBA", rgba.size, (*settings.background, 255)), rgba
    ).convert("RGB")


def _from_16_bit(image: Image.Image, white: int) -> Image.Image:
    """Gray of up to 16 bits scaled to 8; wider numbers have no agreed black and white."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise BadImage("pixels of 32 bits, whose black and white are not known")
    scaled = (values.astype(np.uint32) * 255 + white // 2) // white
    return Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
