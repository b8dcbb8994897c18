"""Checkpoints: tensors and plain values only, written whole or not at all, with a checksum.

A checkpoint is the ZIP archive that ``torch.save`` writes. Its archive comment (PKWARE,
APPNOTE.TXT 6.3.10, section 4.3.16) holds the SHA-256 of the archive as it is without the comment,
so one file carries both, and ``torch.load`` and ``unzip`` read it as any other.
"""

import logging
import os
import zipfile
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, TypedDict, cast, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from ccdiff.errors import UserError
from ccdiff.runs.folder import find_checkpoint, run_of
from ccdiff.system.atomic import HashingWriter, file_sha256, write_whole

__all__ = [
    "FORMAT",
    "Checkpoint",
    "DamagedCheckpoint",
    "load_checkpoint",
    "open_checkpoint",
    "save_checkpoint",
]

log = logging.getLogger(__name__)

FORMAT = 4
_FIRST_SEALED_FORMAT = 2

_NO_COMMENT = b"\0\0"
_MARK = b"ccdiff sha256 "
_COMMENT_BYTES = len(_MARK) + 64
_SEAL_BYTES = len(_NO_COMMENT) + _COMMENT_BYTES


class Checkpoint(TypedDict):
    """What a checkpoint file holds; it is enough to sample and to train on."""

    format: int
    step: int
    seconds: float
    cpu_seconds: float
    config: str
    """The whole resolved config, as YAML."""
    data: str | None
    """Fingerprint of the training images and labels; None where an old version wrote it."""
    denoiser: dict[str, Tensor]
    ema: dict[str, Tensor]
    """State of the averaging; the averaged weights are under ``ema_model.``."""
    optimizer: dict[str, Any]
    rng: dict[str, Any]
    draw: int
    """How often training was rolled back: which draw of the noise it goes on with."""
    loss_sum: Tensor
    """Sum of the losses since ``metrics.jsonl`` last had their mean."""
    loss_count: int
    pending: list[str]
    """What was to be looked at after this step, and is to be where the run goes on."""
    tracker_id: str | None


class DamagedCheckpoint(UserError):
    """The file is not what was written, or not a checkpoint at all."""


def _from_1(old: dict[str, Any]) -> dict[str, Any]:
    """Format 2 added the fingerprint of the data, the draw and the sum of losses."""
    return {**old, "data": None, "draw": 0, "loss_sum": torch.zeros(()), "loss_count": 0}


def _from_2(old: dict[str, Any]) -> dict[str, Any]:
    """Format 3 added what was interrupted."""
    return {**old, "pending": []}


def _from_3(old: dict[str, Any]) -> dict[str, Any]:
    """Format 4 added the time of the processors, which was in the log alone."""
    return {**old, "cpu_seconds": 0.0}


_MIGRATIONS = {1: _from_1, 2: _from_2, 3: _from_3}
"""What turns each old format into the next one."""


def _num_bytes(value: Any) -> int:
    """Bytes of all tensors and texts in nested containers."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_num_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_num_bytes, value))
    return len(value) if isinstance(value, str) else 0


def _seal(sha256: str) -> bytes:
    """What takes the place of an archive's last two bytes, which say that it has no comment."""
    comment = _MARK + sha256.encode()
    return len(comment).to_bytes(2, "little") + comment


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Writes a checkpoint; a file of that name is always complete, and was read back.

    Raises:
        UserError: Where it cannot be written, with how much room it needs.
    """
    seal = b""

    def write(file: BinaryIO) -> None:
        nonlocal seal
        writer = HashingWriter(file)
        torch.save(checkpoint, cast(BinaryIO, writer))
        writer.check()
        seal = _seal(writer.sha256)
        file.seek(-len(_NO_COMMENT), os.SEEK_END)
        file.write(seal)

    def check(partial: Path) -> None:
        try:
            same = _read_seal(partial) == seal
        except DamagedCheckpoint:
            same = False
        if not same:
            raise OSError("what was written reads back otherwise: the disk or memory is failing")

    # Archives align each tensor to 64 bytes and name it twice: 5 % cover that for small models.
    needed = int(1.05 * _num_bytes(checkpoint)) + (1 << 16)
    write_whole(path, write, check=check, needed=needed)


def _read_seal(path: Path) -> bytes | None:
    """The seal of a file, None where it has none.

    Raises:
        DamagedCheckpoint: Where the content is not what was sealed.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < _SEAL_BYTES:
            return None
        file.seek(-_SEAL_BYTES, os.SEEK_END)
        seal = file.read()
        if not seal.startswith(_COMMENT_BYTES.to_bytes(2, "little") + _MARK):
            return None
        file.seek(0)
        if seal == _seal(file_sha256(file, size - _SEAL_BYTES, tail=_NO_COMMENT)):
            return seal
    raise DamagedCheckpoint(f"{path} is damaged: its checksum does not fit its content")


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU without running any code from it.

    Raises:
        DamagedCheckpoint: Where the file is not a checkpoint, or no longer what was written.
        UserError: Where it cannot be read or has a newer format.
    """
    try:
        sealed = _read_seal(path) is not None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        _check_members(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        _check_sizes(loaded)
    except (MemoryError, DamagedCheckpoint):
        raise
    # Unpicklers raise almost anything on malformed bytes.
    except Exception as error:
        # Its first sentence: torch goes on with advice to run whatever code is in the file.
        reason = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        raise DamagedCheckpoint(
            f"{path} is not a checkpoint, or is damaged ({reason}); pass a file "
            f"checkpoints/step_*.pt of a run directory"
        ) from error
    return _checked(loaded, path, sealed=sealed)


def _check_members(path: Path) -> None:
    """Refuses what takes more memory than the file is long, before any of it is taken.

    Checkpoints hold their tensors as they are. A member that is packed, or that lies where another
    one does, is none that was saved here.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > size:
        raise DamagedCheckpoint(
            f"{path} is no checkpoint that this suite has saved: its members take more memory "
            f"than the file is long"
        )


def _check_sizes(value: Any) -> None:
    """Raises a ValueError where a tensor is larger than what it is stored in."""
    if isinstance(value, Tensor):
        if value.nbytes > value.untyped_storage().nbytes():
            raise ValueError("a tensor is larger than what is stored of it")
    elif isinstance(value, dict):
        for inner in value.values():
            _check_sizes(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_sizes(inner)


def _plain(kind: Any) -> tuple[type, ...]:
    """The types of an annotation such as ``dict[str, Tensor] | None``, for isinstance."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return tuple(get_origin(one) or one for one in kinds) + (int,) * (float in kinds)


def _checked(loaded: Any, path: Path, *, sealed: bool) -> Checkpoint:
    """What was loaded, in the format of today."""
    if not isinstance(loaded, dict) or not isinstance(loaded.get("format"), int):
        raise DamagedCheckpoint(f"{path} is a torch file, but not a checkpoint of this suite")
    found = loaded["format"]
    if found > FORMAT:
        raise UserError(
            f"{path} has checkpoint format {found}, this version reads up to {FORMAT}: "
            f"update ccdiff"
        )
    if found >= _FIRST_SEALED_FORMAT and not sealed:
        raise DamagedCheckpoint(f"{path} is damaged: its checksum is gone")
    while loaded["format"] in _MIGRATIONS:
        old = loaded["format"]
        loaded = {**_MIGRATIONS[old](loaded), "format": old + 1}
    kinds = get_type_hints(Checkpoint)
    lacking = [key for key in kinds if key not in loaded]
    if lacking:
        raise DamagedCheckpoint(
            f"{path} is not a whole checkpoint: it lacks {', '.join(sorted(lacking))}"
        )
    for key, kind in kinds.items():
        if not isinstance(loaded[key], _plain(kind)):
            raise DamagedCheckpoint(
                f"{path} is not a whole checkpoint: {key} is a {type(loaded[key]).__name__}"
            )
    return cast(Checkpoint, loaded)


def open_checkpoint(reference: str) -> tuple[Path, Checkpoint]:
    """Reads the checkpoint that a user means; where a run's newest is damaged, the one before.

    Arguments:
        reference: As for :func:`~ccdiff.runs.folder.find_checkpoint`.

    Raises:
        UserError: Where there is none that can be read.
    """
    newest = find_checkpoint(reference)
    paths = [newest]
    if not Path(reference).expanduser().is_file():
        older = [path for path in run_of(newest).checkpoints() if path.name < newest.name]
        paths += reversed(older)
    for path, before in zip(paths, [*paths[1:], None], strict=True):
        try:
            return path, load_checkpoint(path)
        except DamagedCheckpoint as error:
            if before is None:
                raise
            log.warning("%s; taking the one before it, %s", error, before.name)
    raise AssertionError("the last path returns or raises")
