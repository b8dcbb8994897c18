"""Files by name, wherever they lie: in a folder, a zip archive, tar shards or an LMDB.

What images show is told by names and tables alone, see :mod:`ccdiff.data.files.layouts`, so a set
means the same in each of these containers.
"""

import os
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath

from ccdiff.data.files.decode import EXTENSIONS, MAX_BYTES, BadImage, looks_like_image, read_file
from ccdiff.data.files.listing import fingerprint, inside, is_system
from ccdiff.errors import UserError
from ccdiff.system.text import natural_key

__all__ = ["FolderTree", "Tree", "TreeImages", "ZipTree"]

_SNIFFED_BYTES = 32


class Tree(ABC):
    """The contract: names of files, relative and parted by slashes, and their bytes.

    Arguments:
        path: Where the container is.
    """

    has_sidecars = False
    """Whether labels may lie beside each image, under the same name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def part(self, name: str) -> bool | None:
        """Whether the container of a file is held out; None where it does not say."""
        return None

    def key(self, name: str) -> str:
        """A name up to the first dot of its last part."""
        folder, slash, last = name.rpartition("/")
        return f"{folder}{slash}{last.partition('.')[0]}"

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """Of all files in natural order, those of operating systems left out."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of a file; may be called in any thread.

        Raises:
            BadImage: Where there is no such file, or it may not be read.
        """

    @abstractmethod
    def fingerprint(self, names: Sequence[str]) -> str:
        """A hash that changes when any of these files does."""

    def begin(self, name: str) -> bytes:
        """The first bytes of a file, enough to tell an image by."""
        return self.read(name)[:_SNIFFED_BYTES]

    def text(self, name: str) -> str:
        """A file of text.

        Raises:
            UserError: Where it cannot be read, or is none.
        """
        try:
            return self.read(name).decode("utf-8-sig")
        except BadImage as error:
            raise UserError(f"{self.path / name}: {error}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path / name} is no text in UTF-8: {error}") from error

    @cached_property
    def image_names(self) -> list[str]:
        """Of the files that look like images: by name, or where that has no ending by content."""
        return [name for name in self.names if self._may_be_image(name)]

    def _may_be_image(self, name: str) -> bool:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix:
            return suffix in EXTENSIONS
        try:
            return looks_like_image(self.begin(name))
        except BadImage:
            return False

    def passed_over(self, used: Iterable[str]) -> Counter[str]:
        """How many files of each ending are neither images nor among those ``used``."""
        rest = set(self.names) - set(self.image_names) - set(used)
        return Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in rest)


class TreeImages:
    """Images of a tree, by number.

    Arguments:
        tree: Where they are.
        names: Which.
    """

    def __init__(self, tree: Tree, names: Sequence[str]) -> None:
        self.tree = tree
        self.names = names

    def fingerprint(self) -> str:
        """Changes with any name and file."""
        return self.tree.fingerprint(self.names)

    def reader(self, i: int) -> Callable[[], bytes]:
        """Reads image ``i``."""
        return partial(self.tree.read, self.names[i])


class FolderTree(Tree):
    """A folder; links are not followed.

    Links to files are listed, and refused when read if they lead out. Links to folders are listed
    like images, so that they are refused by name and not passed over in silence.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.root = path.resolve()
        self._links: set[str] = set()

    @cached_property
    def names(self) -> Sequence[str]:
        found: list[str] = []
        unseen = [""]
        while unseen:
            folder = unseen.pop()
            with os.scandir(self.path / folder) as entries:
                for entry in entries:
                    if is_system(entry.name):
                        continue
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        unseen.append(name)
                        continue
                    if entry.is_symlink() and os.path.isdir(self.path / name):
                        self._links.add(name)
                    found.append(name)
        return sorted(found, key=natural_key)

    def read(self, name: str) -> bytes:
        return read_file(self.root, name)

    def begin(self, name: str) -> bytes:
        try:
            with inside(self.path, self.path / name).open("rb") as file:
                return file.read(_SNIFFED_BYTES)
        except (OSError, UserError):
            return b""

    def text(self, name: str) -> str:
        inside(self.path, self.path / name)
        return super().text(name) if (self.path / name).stat().st_size else ""

    def _may_be_image(self, name: str) -> bool:
        return name in self._links or super()._may_be_image(name)

    def fingerprint(self, names: Sequence[str]) -> str:
        return fingerprint(self.root, names)


class ZipTree(Tree):
    """A zip archive, read where it lies."""

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{self.path} cannot be read as a zip archive: {error}") from error

    @cached_property
    def names(self) -> Sequence[str]:
        listed = (info.filename for info in self._archive.infolist() if not info.is_dir())
        found = [name for name in listed if not any(map(is_system, name.split("/")))]
        return sorted(found, key=natural_key)

    def read(self, name: str) -> bytes:
        try:
            info = self._archive.getinfo(name)
            if info.file_size > MAX_BYTES:
                raise BadImage(f"file of {info.file_size / 2**20:.0f} MiB, too large for an image")
            return self._archive.read(info) or _empty()
        except KeyError:
            raise BadImage("no such file") from None
        # Encrypted and damaged members, and methods that Python does not know.
        except (RuntimeError, OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise BadImage(f"cannot be read: {error}") from None

    def begin(self, name: str) -> bytes:
        try:
            with self._archive.open(name) as file:
                return file.read(_SNIFFED_BYTES)
        except (KeyError, RuntimeError, OSError, zipfile.BadZipFile, NotImplementedError):
            return b""

    def text(self, name: str) -> str:
        return super().text(name) if self._archive.getinfo(name).file_size else ""

    def fingerprint(self, names: Sequence[str]) -> str:
        sums = [f"{name} {self._archive.getinfo(name).CRC}" for name in names if name in self]
        return fingerprint(self.path.parent, [self.path.name, *sums])

    def __contains__(self, name: str) -> bool:
        return name in self._archive.NameToInfo


def _empty() -> bytes:
    raise BadImage("empty file")
