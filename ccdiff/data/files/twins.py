"""Images that a set holds twice, on both sides of its split."""

import hashlib
from collections.abc import Iterable

import numpy as np

from ccdiff.data.files.heldout import groups_of
from ccdiff.data.files.source import Source

__all__ = ["Twins", "pixel_digest"]


class Twins:
    """Knows held-out images whose pixels a training image has too.

    Where the split was drawn, they are left out, so that no image is judged by what it was trained
    on; but for the last one of a class, or of the images with or without an attribute. Training
    images come first, so all of them are known when the first held-out one comes.

    Arguments:
        source: The images.
        trained: The pixels of training images that an earlier attempt has decoded.
        left_out: Numbers of the images that it has left out.
    """

    def __init__(
        self, source: Source, *, trained: Iterable[bytes], left_out: Iterable[int]
    ) -> None:
        self.source = source
        self._seen = {pixel_digest(image) for image in trained} if source.drawn else set()
        groups = groups_of(source.labels)
        self._left = [int(source.heldout[group].sum()) for group in groups]
        self._groups: dict[int, list[int]] = {int(i): [] for i in np.flatnonzero(source.heldout)}
        for number, group in enumerate(groups):
            for i in group[source.heldout[group]].tolist():
                self._groups[i].append(number)
        for i in left_out:
            self._leave_out(i)

    def has(self, i: int, digest: bytes) -> bool:
        """Whether image ``i``, whose pixels have this digest, is to be left out."""
        if not self.source.drawn:
            return False
        if not self.source.heldout[i]:
            self._seen.add(digest)
            return False
        if digest not in self._seen or any(self._left[g] < 2 for g in self._groups[i]):
            return False
        self._leave_out(i)
        return True

    def _leave_out(self, i: int) -> None:
        for group in self._groups.get(i, ()):
            self._left[group] -= 1


def pixel_digest(data: bytes | memoryview) -> bytes:
    """16 bytes that tell the pixels of an image from those of any other."""
    return hashlib.blake2b(data, digest_size=16).digest()
