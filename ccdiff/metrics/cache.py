"""Tensors kept on disk: a file is complete or not there, and reading it runs no code."""

import hashlib
import logging
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from ccdiff.system.atomic import HashingWriter, write_whole

__all__ = ["keep", "kept"]

log = logging.getLogger(__name__)

_MARK = b"\nccdiff sha256 "


def keep(state: dict[str, Any], path: Path) -> None:
    """Writes tensors and plain values; processes that make the same at once are welcome.

    Raises:
        UserError: Where the disk is full or cannot be written.
    """

    def write(file: BinaryIO) -> None:
        writer = HashingWriter(file)
        torch.save(state, cast(BinaryIO, writer))
        writer.check()
        file.write(_MARK + writer.sha256.encode())

    write_whole(path, write, shared=True)


def kept(path: Path) -> dict[str, Any] | None:
    """What was kept; None where there is nothing, or, with a warning, where it is damaged.

    A file ends in the hash of its content, but for those of earlier versions.
    """
    if not path.exists():
        return None
    try:
        content, mark, sha256 = path.read_bytes().rpartition(_MARK)
        if mark and hashlib.sha256(content).hexdigest() != sha256.decode(errors="replace"):
            raise EOFError
        file = BytesIO(content if mark else sha256)
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    # torch reports a damaged file by any of these.
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        LookupError,
        ValueError,
    ) as error:
        log.warning("%s is damaged (%s): making it anew", path, type(error).__name__)
        return None
    if not isinstance(state, dict):
        log.warning("%s holds something else: making it anew", path)
        return None
    return state
