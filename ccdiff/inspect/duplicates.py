"""Images that a set holds more than once, as they are or nearly so."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

__all__ = ["look_alikes", "same_pixels"]

_THUMBNAIL = 8
_CHUNK = 512


def same_pixels(parts: Sequence[Tensor]) -> list[list[int]]:
    """Groups of two or more images whose every pixel agrees.

    Arguments:
        parts: Images uint8 [N, C, H, W] each, numbered on from part to part.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, image in enumerate(chain(*parts)):
        groups[hashlib.blake2b(image.contiguous().numpy().data, digest_size=16).digest()].append(i)
    return [group for group in groups.values() if len(group) > 1]


def _thumbnails(parts: Sequence[Tensor]) -> Tensor:
    """Means over an 8 x 8 grid of cells and all channels, float32 [N, 64]."""
    cells = [
        adaptive_avg_pool2d(chunk.float().mean(1), _THUMBNAIL).flatten(1)
        for part in parts
        for chunk in part.split(_CHUNK)
    ]
    return torch.cat(cells)


def look_alikes(
    parts: Sequence[Tensor], *, distance: float = 1.0, limit: int = 1000
) -> list[tuple[int, int]]:
    """Pairs of images whose gray thumbnails of 8 x 8 cells hardly differ.

    Finds copies that were compressed, resized or recoloured a little. All pairs are compared.

    Arguments:
        parts: Images uint8 [N, C, H, W] each, numbered on from part to part.
        distance: Largest root mean squared difference of two thumbnails, in gray levels of 255.
        limit: Number of pairs after which the search ends.

    Returns:
        Pairs ``i < j``.
    """
    thumbnails = _thumbnails(parts)
    found: list[tuple[int, int]] = []
    for start in range(0, len(thumbnails), _CHUNK):
        rest = thumbnails[start:]
        # Rounding is 1e-7 of 64 * 255^2 in the square, far less than 64 distance^2.
        gaps = torch.cdist(rest[:_CHUNK], rest)
        near = (gaps <= distance * _THUMBNAIL).nonzero()
        near = near[near[:, 0] < near[:, 1]] + start
        found += [(i, j) for i, j in near.tolist()]
        if len(found) >= limit:
            break
    return found[:limit]
