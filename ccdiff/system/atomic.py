"""Files that are whole or not there at all, whatever happens while they are written."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ccdiff.errors import UserError

__all__ = [
    "HashingWriter",
    "file_sha256",
    "made_folder",
    "sync_folder",
    "write_text",
    "write_whole",
]

_CHUNK = 1 << 22


class HashingWriter:
    """A file to write to that knows the SHA-256 of what it was given.

    A failed write is kept until :meth:`check`, because libraries written in C++ may end the
    process where a Python callback raises.

    Arguments:
        file: Where to write.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes and hashes ``data``; returns its number of bytes."""
        self._digest.update(data)
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
        return len(data)

    def check(self) -> None:
        """Raises the first error of a write."""
        if self._error is not None:
            raise self._error

    def flush(self) -> None:
        """Hands everything to the system, unless a write has failed."""
        if self._error is None:
            self._file.flush()

    @property
    def sha256(self) -> str:
        """Of everything so far, in hexadecimal."""
        return self._digest.hexdigest()


def file_sha256(file: BinaryIO, num_bytes: int, *, tail: bytes = b"") -> str:
    """SHA-256 of the next ``num_bytes`` of ``file``, then ``tail``, in hexadecimal."""
    digest = hashlib.sha256()
    while num_bytes > 0 and (chunk := file.read(min(num_bytes, _CHUNK))):
        digest.update(chunk)
        num_bytes -= len(chunk)
    digest.update(tail)
    return digest.hexdigest()


def made_folder(folder: str | Path) -> Path:
    """Makes a folder that was asked for, where there is none yet.

    Raises:
        UserError: Where it cannot be made.
    """
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder {folder} cannot be made ({error.strerror}): pass another as out"
        ) from error
    return path


def sync_folder(folder: Path) -> None:
    """Brings names that were made, changed or removed in ``folder`` to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync(file: BinaryIO) -> None:
    """Brings a file to the disk, and out of memory, so that reading it back reads the disk."""
    file.flush()
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"


def write_whole(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    check: Callable[[Path], None] | None = None,
    needed: int = 0,
    shared: bool = False,
    durable: bool = True,
) -> None:
    """Writes to a temporary name, syncs, reads back, renames, syncs the folder.

    Arguments:
        path: Where to; what is there stays until the new file is whole.
        write: Writes the content.
        check: Reads the temporary file back and raises where it is not what was written.
        needed: About how many bytes it takes.
        shared: Whether several processes may write to ``path`` at once; the last one's file stays.
        durable: Whether to wait for the disk; what can be made again, and comes by the thousand,
            need not.

    Raises:
        UserError: Where the disk is full, read-only or fails, with how much is needed.
    """
    owner = f".{os.getpid()}" if shared else ""
    partial = path.with_name(f".{path.name}{owner}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path, needed)
        with partial.open("wb") as file:
            write(file)
            if durable:
                _sync(file)
        if check is not None:
            check(partial)
        os.replace(partial, path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        _discard(partial)
        raise _cannot_write(path, needed, error.strerror or str(error)) from error
    except BaseException:
        _discard(partial)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all; raises as :func:`write_whole` does."""
    write_whole(path, lambda file: file.write(text.encode()))


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise _cannot_write(path, needed, "the disk is full")


def _cannot_write(path: Path, needed: int, why: str) -> UserError:
    told = f"cannot write {path}: {why}"
    if needed:
        told += f"; it needs {_mebibytes(needed)}"
    if path.parent.is_dir():
        told += f", and {_mebibytes(shutil.disk_usage(path.parent).free)} are free there"
    return UserError(
        f"{told}. What was saved before is untouched: make room, or let it be written, and go on "
        f"from there"
    )


def _discard(partial: Path) -> None:
    try:
        partial.unlink(missing_ok=True)
    except OSError:
        return  # A disk that cannot be written cannot be tidied; no command reads this name.
