"""Images in tar shards, as webdataset writes them, and in LMDB, read where they lie."""

import os
import tarfile
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ccdiff.data.files.decode import MAX_BYTES, BadImage
from ccdiff.data.files.listing import fingerprint, inside, is_system
from ccdiff.data.files.splits import split_of
from ccdiff.data.files.trees import FolderTree, Tree
from ccdiff.errors import UserError
from ccdiff.system.text import natural_key

__all__ = ["LmdbTree", "TarTree"]


class _Member(NamedTuple):
    """A file in a shard: which shard, and where in it."""

    shard: str
    start: int
    size: int


class TarTree(Tree):
    """Tar archives, such as the shards of webdataset.

    Files of one name in several shards are told apart by the shards' names. Whether a file is held
    out is told by the name of its shard.

    Arguments:
        path: The folder of the shards.
        shards: Their names.
    """

    has_sidecars = True

    def __init__(self, path: Path, shards: Sequence[str]) -> None:
        super().__init__(path)
        self.shards = sorted(shards, key=natural_key)

    @cached_property
    def _members(self) -> dict[str, _Member]:
        listed: list[tuple[str, _Member]] = []
        for shard in self.shards:
            file = inside(self.path, self.path / shard)
            try:
                with tarfile.open(file, "r:") as archive:
                    listed += [
                        (info.name.removeprefix("./"), _Member(shard, info.offset_data, info.size))
                        for info in archive
                        if info.isreg() and not info.issparse()
                    ]
            except (tarfile.TarError, OSError, EOFError) as error:
                raise UserError(
                    f"{file} cannot be read as a tar archive: {error}; one that is compressed "
                    f"must be unpacked first"
                ) from error
        times = Counter(name for name, _ in listed)
        members: dict[str, _Member] = {}
        for name, member in listed:
            if any(map(is_system, name.split("/"))):
                continue
            unique = name if times[name] == 1 else f"{Path(member.shard).stem}/{name}"
            if unique in members:
                raise UserError(f"{self.path / member.shard} holds {name} twice")
            members[unique] = member
        return members

    @cached_property
    def names(self) -> Sequence[str]:
        return sorted(self._members, key=natural_key)

    def part(self, name: str) -> bool | None:
        return split_of(Path(self._members[name].shard).stem)

    def read(self, name: str) -> bytes:
        try:
            shard, start, size = self._members[name]
        except KeyError:
            raise BadImage("no such file") from None
        if not 0 < size <= MAX_BYTES:
            raise BadImage("empty file" if size == 0 else "too large for an image")
        try:
            with (self.path / shard).open("rb") as file:
                data = os.pread(file.fileno(), size, start)
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror}") from None
        if len(data) < size:
            raise BadImage("the archive was cut short")
        return data

    def fingerprint(self, names: Sequence[str]) -> str:
        return fingerprint(self.path, self.shards)


class LmdbTree(Tree):
    """A folder with a memory-mapped database (LMDB) whose keys name images; tables may lie beside.

    Arguments:
        path: The folder, which holds ``data.mdb``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._beside = FolderTree(path)

    @cached_property
    def _database(self) -> Any:
        try:
            import lmdb
        except ImportError as error:
            raise UserError(
                f"{self.path} is an LMDB, which the package lmdb reads: pip install 'ccdiff[lmdb]'"
            ) from error
        try:
            return lmdb.open(str(self.path), readonly=True, lock=False, readahead=False)
        except lmdb.Error as error:
            raise UserError(f"{self.path} cannot be read as an LMDB: {error}") from error

    @cached_property
    def _keys(self) -> dict[str, bytes]:
        with self._database.begin() as transaction:
            keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
        return {key.decode("utf-8", "surrogateescape"): key for key in keys}

    @cached_property
    def names(self) -> Sequence[str]:
        beside = [name for name in self._beside.names if not name.endswith(".mdb")]
        return sorted({*beside, *self._keys}, key=natural_key)

    def read(self, name: str) -> bytes:
        if (key := self._keys.get(name)) is None:
            return self._beside.read(name)
        with self._database.begin() as transaction:
            data = transaction.get(key)
        if not data:
            raise BadImage("empty file")
        return bytes(data)

    def begin(self, name: str) -> bytes:
        if (key := self._keys.get(name)) is None:
            return self._beside.begin(name)
        with self._database.begin(buffers=True) as transaction:
            return bytes(transaction.get(key)[:32])

    def fingerprint(self, names: Sequence[str]) -> str:
        return fingerprint(self.path, ["data.mdb"])
