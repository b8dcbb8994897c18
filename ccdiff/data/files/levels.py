"""Folders and files at one level of a tree, and what to say where they can be read in two ways."""

from collections import defaultdict
from collections.abc import Iterable

from ccdiff.errors import UserError

__all__ = ["MAX_COLUMNS", "level", "some", "two_readings"]

_MAX_SHOWN = 6
MAX_COLUMNS = 20
"""How many columns of a table a message names: digits in a table have a column per pixel."""


def level(at: str, names: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The files directly in the folder ``at``, and those of each of its folders."""
    loose: list[str] = []
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        first, slash, _ = name[len(at) :].partition("/")
        (folders[first] if slash else loose).append(name)
    return loose, dict(folders)


def some(names: Iterable[str], *, most: int = _MAX_SHOWN) -> str:
    """The first of the names, for a message, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def two_readings(where: str, one: str, first: str, other: str, second: str) -> UserError:
    """The error that shows two readings of a folder, each with the setting that means it."""
    return UserError(
        f"{where} can be read in two ways:\n  {one}: pass {first}\n  {other}: pass {second}"
    )
