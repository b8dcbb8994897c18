"""Cells that say what is present: tags of an image, or a column for each attribute."""

import ast
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ccdiff.data.files.splits import read_bit
from ccdiff.errors import UserError
from ccdiff.system.text import natural_key

__all__ = ["Rows", "missing", "read_attributes", "read_tags"]

_MAX_TAGS = 4096
_NO_VALUE = frozenset({"", "nan", "null", "<na>"})

Rows = Sequence[Mapping[str, Any]]


def missing(value: object) -> bool:
    """Whether a cell holds no value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and value.strip().lower() in _NO_VALUE


def _tags(value: object) -> set[str]:
    """The names that one cell of a tag column says are present."""
    if value is None or isinstance(value, float):
        raise ValueError("the cell has no value")
    if isinstance(value, Mapping):
        bits = {str(name): read_bit(bit) for name, bit in value.items()}
        if None in bits.values():
            raise ValueError(f"{value!r} maps names to something else than 0 and 1")
        return {name.strip() for name, bit in bits.items() if bit}
    parts = _split_text(value) if isinstance(value, str) else value
    if not isinstance(parts, Iterable):
        raise ValueError(f"{value!r} is no list of tags")
    parts = list(parts)
    if any(map(missing, parts)) and not isinstance(value, str):
        raise ValueError(f"{value!r} holds a tag without a name")
    return {tag for part in parts if (tag := str(part).strip())}


def _split_text(text: str) -> list[str]:
    if text.strip().startswith("[") and text.strip().endswith("]"):
        # As Python and pandas write a list.
        try:
            return [str(part) for part in ast.literal_eval(text.strip())]
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    return re.split("[,;|]", text)


def read_tags(
    where: str, column: str, values: Sequence[object]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The tags of each image as bits, uint8 [N, K], and their names.

    Arguments:
        where: Names the table in messages.
        column: Names the column there.
        values: Its cells: a list, a mapping of names to yes and no, or a text with separators.

    Raises:
        UserError: Where a cell is none of these, with its image, or there are too many names.
    """
    rows = []
    known: set[str] = set()
    for i, value in enumerate(values, start=1):
        try:
            rows.append(_tags(value))
        except ValueError as error:
            raise UserError(f"{column!r} of image {i} of {where}: {error}") from error
        # A mapping names what is absent too.
        known |= rows[-1] | (
            {str(n).strip() for n in value} if isinstance(value, Mapping) else set()
        )
    names = tuple(sorted(known, key=natural_key))
    if not 0 < len(names) <= _MAX_TAGS:
        raise UserError(
            f"column {column!r} of {where} holds {len(names)} different tags; it takes 1 to "
            f"{_MAX_TAGS} of them, separated by commas, and no free text"
        )
    labels = np.array([[name in row for name in names] for row in rows], dtype=np.uint8)
    return labels, names


def read_attributes(
    where: str, columns: Sequence[str], rows: Rows, needed: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Columns that are an attribute each as bits, uint8 [N, K], and their names.

    Arguments:
        where: Names the table in messages.
        columns: Which columns may be attributes.
        rows: One for each image.
        needed: Attributes that will be used, the others may be none; None needs all.

    Raises:
        UserError: Where a cell is neither yes nor no, with its image, or there is no column.
    """
    found: dict[str, list[int]] = {}
    for column in columns:
        name = column.strip()
        unused = needed is not None and name not in needed
        bits = [read_bit(row[column]) for row in rows]
        if None in bits and unused:
            continue
        if None in bits:
            i = bits.index(None)
            raise UserError(
                f"column {name!r} of image {i + 1} of {where} is {rows[i][column]!r}, which is "
                f"neither 1 nor 0 (or -1): choose the attributes by data.attributes=[...], name "
                f"the column of classes by data.class_column, or columns of real numbers by "
                f"data.numbers=[...]"
            )
        values = {str(row[column]).strip().removesuffix(".0") for row in rows}
        if not unused and {"-1", "0", "1"} <= values:
            raise UserError(
                f"column {name!r} of {where} holds -1, 0 and 1: say which of -1 and 0 means no, "
                f"and leave the other out"
            )
        found[name] = [bit for bit in bits if bit is not None]
    if not found:
        raise UserError(
            f"{where} names images but no attribute of them: add a column for each, or, where "
            f"folders tell the classes, pass data.classes=folders"
        )
    return np.array(list(found.values()), dtype=np.uint8).T.copy(), tuple(found)
