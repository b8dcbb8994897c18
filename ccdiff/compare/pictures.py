"""Pictures within a page, as small as there is room for."""

import base64
import io
from pathlib import Path

from PIL import Image

__all__ = ["embedded"]

_LARGEST = 48_000
"""A picture that is no larger stays as it is."""
_SMALLER = ((480, 85), (320, 75), (200, 70), (120, 60))
"""Width in pixels and quality of JPEG, each try smaller than the one before."""


def embedded(path: Path, *, most_bytes: int) -> str | None:
    """A picture as a data URI: as it is where small, else made smaller.

    Arguments:
        path: A PNG file.
        most_bytes: Of the URI; what does not fit at a width of 120 pixels is left out.

    Returns:
        None where there is no room for it, or it cannot be read.
    """
    # Three bytes take four letters.
    room = min(_LARGEST, most_bytes * 3 // 4 - 32)
    try:
        content = path.read_bytes()
        if len(content) <= room:
            return _uri(content, "png")
        with Image.open(io.BytesIO(content)) as image:
            picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError):  # What PIL raises on damaged files.
        return None
    for width, quality in _SMALLER:
        picture.thumbnail((width, 4 * width))
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=quality)
        if buffer.tell() <= room:
            return _uri(buffer.getvalue(), "jpeg")
    return None


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
