"""Which images a folder holds, in an order and with a fingerprint that do not depend on luck."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ccdiff.data.files.decode import EXTENSIONS
from ccdiff.errors import UserError

__all__ = ["fingerprint", "folders", "inside", "list_images", "natural_key"]


def natural_key(name: str) -> tuple[tuple[tuple[str, ...], ...], str]:
    """Sorts ``2.jpg`` before ``10.jpg``, and a folder's files together."""
    parts = (re.split("([0-9]+)", part) for part in name.split("/"))
    key = tuple(tuple(_digits(p) if i % 2 else p for i, p in enumerate(part)) for part in parts)
    return key, name


def _digits(number: str) -> str:
    """A text that sorts as the number does, however long; ``int`` takes 4,300 digits at most."""
    digits = number.lstrip("0")
    return f"{len(digits):012d}{digits}"


def _hidden(name: str) -> bool:
    """Files that operating systems leave behind, such as ``._0.jpg``."""
    return name.startswith(".") or name == "__MACOSX"


def folders(root: Path) -> list[str]:
    """Names of the folders directly in ``root``, in natural order; links are not followed."""
    with os.scandir(root) as entries:
        names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    return sorted((name for name in names if not _hidden(name)), key=natural_key)


def list_images(root: Path, *, under: str = "", deep: bool = True) -> list[str]:
    """Files that look like images by their name, relative to ``root``, in natural order.

    Links to files are listed, and refused when read if they lead out of ``root``. Links to folders
    are listed like files, so that they are refused by name and not passed over in silence.

    Arguments:
        root: The folder.
        under: Folder inside it to list, relative.
        deep: Whether to list the folders inside too.
    """
    found: list[str] = []
    unseen = [under]
    while unseen:
        folder = unseen.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if _hidden(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    unseen += [name] if deep else []
                elif os.path.splitext(name)[1].lower() in EXTENSIONS or _links_to_folder(entry):
                    found.append(name)
    return sorted(found, key=natural_key)


def _links_to_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and entry.is_dir()


def inside(root: Path, path: Path) -> Path:
    """``path``, unless it leads out of the folder ``root`` by a link.

    Raises:
        UserError: Where it does.
    """
    if path.resolve().is_relative_to(root.resolve()):
        return path
    raise UserError(
        f"{path} is a link that leads out of {root}, to {path.resolve()}: links are not followed; "
        f"put the files themselves there"
    )


def fingerprint(root: Path, names: Sequence[str]) -> str:
    """A hash of names, sizes and modification times, which changes when any image does."""
    digest = hashlib.sha256()
    for name in names:
        try:
            status = os.stat(root / name)
            state = f"{status.st_size} {status.st_mtime_ns}"
        except (OSError, ValueError):
            state = "unreadable"
        digest.update(f"{name}\0{state}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
