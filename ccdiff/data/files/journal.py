"""How far preparation has come, as a journal on disk says it."""

import json
import os
from dataclasses import asdict, dataclass, fields
from typing import BinaryIO

__all__ = ["Bad", "Progress", "recover"]


@dataclass(frozen=True)
class Bad:
    """An image that cannot be used: its number in the source, its name, and why."""

    index: int
    file: str
    why: str

    def __str__(self) -> str:
        # Names may hold bytes that no terminal can show.
        return f"{ascii(self.file)[1:-1]}: {self.why}"


@dataclass(frozen=True)
class Progress:
    """How far preparation has come.

    Arguments:
        done: Images seen.
        rows: Images kept, which lie in the file.
        train: Of those, for training.
        enlarged: Of those, smaller in the source.
        bad: Images not kept.
        twins: Held-out images not kept since a training image has their pixels, by number.
    """

    done: int = 0
    rows: int = 0
    train: int = 0
    enlarged: int = 0
    bad: tuple[Bad, ...] = ()
    twins: tuple[int, ...] = ()

    def plus(self, step: "Progress") -> "Progress":
        """After one more step."""
        pairs = ((getattr(self, f.name), getattr(step, f.name)) for f in fields(self))
        return Progress(*(mine + more for mine, more in pairs))

    def to_line(self) -> bytes:
        """For the journal."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> "Progress":
        """From the journal."""
        values = json.loads(line)
        bad = tuple(Bad(**bad) for bad in values["bad"])
        return Progress(**{**values, "bad": bad, "twins": tuple(values["twins"])})


def recover(journal: BinaryIO, pixels: BinaryIO, *, header_bytes: int, row_bytes: int) -> Progress:
    """What an earlier attempt completed; cuts both files off after it."""
    progress = Progress()
    end = 0
    size = os.fstat(pixels.fileno()).st_size
    journal.seek(0)
    for line in journal:
        try:
            after = progress.plus(Progress.from_line(line))
        except (ValueError, TypeError, KeyError):
            break
        if header_bytes + after.rows * row_bytes > size:
            break
        progress, end = after, end + len(line)
    journal.truncate(end)
    # The header is known at the end only.
    pixels.truncate(header_bytes + progress.rows * row_bytes)
    return progress
