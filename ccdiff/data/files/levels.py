"""Folders and files at one level of a tree, and what to say where they can be read in two ways."""

from collections import defaultdict
from collections.abc import Iterable

from ccdiff.errors import UserError

__all__ = ["level", "some", "two_readings"]

_MAX_SHOWN = 6


def level(at: str, names: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The files directly in the folder ``at``, and those of each of its folders."""
    loose: list[str] = []
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        first, slash, _ = name[len(at) :].partition("/")
        (folders[first] if slash else loose).append(name)
    return loose, dict(folders)


def some(names: Iterable[str]) -> str:
    """The first of the names, for a message, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - _MAX_SHOWN} more" if len(listed) > _MAX_SHOWN else ""
    return ", ".join(listed[:_MAX_SHOWN]) + more


def two_readings(where: str, one: str, first: str, other: str, second: str) -> UserError:
    """The error that shows two readings of a folder, each with the setting that means it."""
    return UserError(
        f"{where} can be read in two ways:\n  {one}: pass {first}\n  {other}: pass {second}"
    )
