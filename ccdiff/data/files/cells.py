"""Which images the cells of a table name, and what vectors of labels say."""

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ccdiff.data.files.tables import Table
from ccdiff.data.files.trees import Tree
from ccdiff.errors import UserError

__all__ = ["refuse_repeated", "resolve", "vectors"]


def resolve(tree: Tree, table: Table, images: Sequence[str], *, folder: str | None) -> list[str]:
    """The images that the cells of a table name.

    A cell is read from where the table lies, or from ``folder``; else it is the end of the path of
    one image, with or without the ending of its name. Where a ``folder`` is named, of a path or
    address of another machine the name alone counts.

    Raises:
        UserError: Where it may be one of several images, or all are of another machine.
    """
    known = {_normal(name): name for name in images}
    ends: dict[str, list[str]] = defaultdict(list)
    for name in images:
        path = PurePosixPath(name)
        ends[_normal(path.name)].append(name)
        if path.suffix:
            ends[_normal(path.stem)].append(name)
    base = table.folder if folder is None else folder
    found = []
    for i, cell in enumerate(table.files, start=1):
        joined = posixpath.join(base, cell)
        direct = _normal(posixpath.normpath(joined))
        if direct in known:
            found.append(known[direct])
            continue
        wanted = _normal(posixpath.normpath(cell))
        last = posixpath.basename(wanted)
        if folder is not None and _FROM_ROOT.match(wanted):
            wanted = last
        matches = [
            name
            for name in ends.get(last, [])
            if f"/{_stemmed(_normal(name), last)}".endswith(f"/{wanted}")
        ]
        if len(matches) > 1:
            folders = sorted({posixpath.dirname(name) or "." for name in matches})
            raise UserError(
                f"image {i} of {tree.path / table.name} is named {cell!r}, and there are "
                f"{len(matches)} such images: pass data.images=<one of {', '.join(folders)}>"
                if len(folders) > 1
                else f"image {i} of {tree.path / table.name} is named {cell!r}, and there are "
                f"{', '.join(matches)}: write the ending of its name too"
            )
        # One that is not there is told with all others that cannot be read.
        found.append(matches[0] if matches else joined)
    if folder is None and images and all(map(_FROM_ROOT.match, found)):
        inside = (Path(file).resolve().is_relative_to(tree.path.resolve()) for file in found)
        if not any(inside):
            last = posixpath.basename(found[0])
            raise UserError(
                f"{tree.path / table.name} names images by where they lay on another machine, "
                f"such as {found[0]!r}: pass data.images=<the folder of the images>, to look for "
                f"{last} there"
            )
    return found


# From the root of a disk, or an address.
_FROM_ROOT = re.compile(r"/|[A-Za-z][\w+.-]*:/")


def _stemmed(name: str, last: str) -> str:
    """A name without its ending, where it is looked for without."""
    return name if posixpath.basename(name) == last else posixpath.splitext(name)[0]


def _normal(name: str) -> str:
    """One spelling of a name: accents may be written as one sign or two."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def refuse_repeated(where: str, cells: Sequence[str], files: Sequence[str]) -> None:
    """Refuses an image that is named twice, in one spelling or in two.

    Arguments:
        where: Names the table in messages.
        cells: What it calls the images.
        files: The images themselves.

    Raises:
        UserError: Where one is there twice.
    """
    first: dict[str, int] = {}
    for i, (cell, file) in enumerate(zip(cells, files, strict=True), start=1):
        if file in first:
            other = cells[first[file] - 1]
            spelt = "" if other == cell else f", which is {other!r} of image {first[file]},"
            raise UserError(
                f"image {i} of {where} names {cell!r}{spelt} a second time: an image has one row; "
                f"several labels of one are a list in its column tags"
            )
        first[file] = i


def vectors(where: str, values: Sequence[Any]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class indices, or vectors of them that are one-hot or of several."""
    if not values:
        raise UserError(f"{where} has no labels")
    if all(
        type(value) is int or (type(value) is float and value.is_integer()) for value in values
    ):
        found = sorted({int(value) for value in values})
        index = {value: i for i, value in enumerate(found)}
        labels = np.array([index[int(value)] for value in values], dtype=np.int64)
        return labels, tuple(map(str, found))
    for i, value in enumerate(values):
        if not isinstance(value, list) or len(value) != len(values[0]) or not value:
            raise UserError(
                f"label {i + 1} of {where} is {value!r}: no class and no vector of them"
            )
        if any(part not in (0, 1) for part in value):
            raise UserError(
                f"label {i + 1} of {where} is {value!r}: its numbers are not all 0 and 1"
            )
    bits = np.array(values, dtype=np.uint8)
    if bits.shape[1] > 1 and (bits.sum(1) == 1).all():
        present = np.flatnonzero(bits.any(0))
        labels = np.searchsorted(present, bits.argmax(1)).astype(np.int64)
        return labels, tuple(str(k) for k in present)
    return bits, tuple(map(str, range(bits.shape[1])))
