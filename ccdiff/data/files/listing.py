"""Names of files: folders, and which of them are those of the operating system."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from ccdiff.errors import UserError
from ccdiff.system.text import natural_key

__all__ = ["fingerprint", "folders", "inside", "is_system"]

# Of macOS, Synology and QNAP disk stations, Windows and Unix.
_SYSTEM = frozenset(
    {
        "__macosx",
        "@eadir",
        "@recycle",
        "#recycle",
        "@tmp",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "desktop.ini",
        "icon\r",
    }
)


def is_system(name: str) -> bool:
    """Whether a file or folder is one that operating systems leave behind, such as ``._0.jpg``."""
    return (name.startswith(".") and name.strip(".") != "") or name.lower() in _SYSTEM


def folders(root: Path) -> list[str]:
    """Names of the folders directly in ``root``, in natural order; links are not followed."""
    with os.scandir(root) as entries:
        names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    return sorted((name for name in names if not is_system(name)), key=natural_key)


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
    """A hash of names, sizes and modification times, which changes when any file does."""
    digest = hashlib.sha256()
    for name in names:
        try:
            status = os.stat(root / name)
            state = f"{status.st_size} {status.st_mtime_ns}"
        except (OSError, ValueError):
            state = "unreadable"
        digest.update(f"{name}\0{state}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
