"""Columns of a table that say what images show, and what their cells mean.

- a class column, ``label``, ``class`` or the one that settings name: one class per image, or a
  list of what is present in each of its cells;
- else ``tags``, ``attributes`` or ``caption``: what is present, as a list, a mapping of names to
  yes and no, or a text separated by commas, semicolons or bars;
- else every column is one attribute: 1, true, yes or 0, -1, false, no.

Where settings name columns of numbers, these are the labels, see
:mod:`ccdiff.data.files.numbers`.

Beside these, ``split`` or ``partition``, or 1 and 0 in ``is_train`` or ``is_test``, may say which
images are held out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ccdiff.data.files.attributes import Rows, missing, read_attributes, read_tags
from ccdiff.data.files.levels import MAX_COLUMNS, some
from ccdiff.data.files.numbers import read_numbers
from ccdiff.data.files.splits import (
    SPLIT_COLUMNS,
    flag_column,
    read_bit,
    read_flags,
    read_split,
)
from ccdiff.errors import UserError
from ccdiff.system.text import natural_key

__all__ = ["ColumnSettings", "Labelled", "read_columns"]

_CLASS_COLUMNS = ("label", "class")
_TAG_COLUMNS = ("tags", "attributes", "caption")
_UNLABELLED = "-1"


@dataclass(frozen=True, kw_only=True)
class ColumnSettings:
    """Which columns count.

    Arguments:
        numbers: Columns of real numbers, which are the labels then, and all others are not.
        needed: Attributes that will be used: where each is a column, the others are left out if
            they are none; by default all columns must be attributes.
        class_column: The column of classes; None takes one with a usual name.
    """

    numbers: Sequence[str] | None = None
    needed: Sequence[str] | None = None
    class_column: str | None = None


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """What rows say of their images.

    Arguments:
        labels: int64 [N] class indices, uint8 [N, K] attribute bits or float32 [N, K] numbers,
            NaN where one is missing.
        names: Of the classes, attributes or numbers.
        heldout: Which images are held out, bool [N]; none where the rows do not say.
        rows: Which of the rows they are, int64 [N]: those without a label are left out.
        told: What a user should know of the reading.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    heldout: np.ndarray | None
    rows: np.ndarray
    told: list[str] = field(default_factory=list)


def read_columns(
    rows: Rows, where: str, settings: ColumnSettings, *, heldout: np.ndarray | None = None
) -> Labelled:
    """What the columns of a table say.

    Arguments:
        rows: One for each image, without the column that names its file.
        where: Names the table in messages.
        settings: Which columns count.
        heldout: Which images are held out, bool [N], where that is known otherwise.

    Raises:
        UserError: Where a cell is missing or means nothing, with its row.
    """
    columns = list(rows[0]) if rows else []
    by_name = _lowered(columns, where)
    split = next((by_name[c] for c in SPLIT_COLUMNS if c in by_name), None)
    if split is not None and heldout is None:
        heldout = read_split(where, [row[split] for row in rows])
    flag = flag_column(by_name)
    if split is None and flag is not None and heldout is None:
        heldout = read_flags(where, flag, rows)
    everything = np.arange(len(rows))
    if settings.numbers is not None:
        return Labelled(
            labels=read_numbers(rows, by_name, where, settings.numbers),
            names=tuple(settings.numbers),
            heldout=heldout,
            rows=everything,
        )
    classes = _class_column(rows, by_name, where, settings)
    tags = next((by_name[c] for c in _TAG_COLUMNS if c in by_name), None)
    if classes is not None and any(isinstance(row[classes], list | Mapping) for row in rows):
        classes, tags = None, classes
    told: list[str] = []
    if classes is not None:
        cells = [_class(row[classes], where, classes, i) for i, row in enumerate(rows, start=1)]
        cells = _whole_numbers(cells)
        everything = _labelled(cells, where, classes, heldout, told)
        names = tuple(sorted({cells[i] for i in everything}, key=natural_key))
        index = {name: i for i, name in enumerate(names)}
        labels = np.array([index[cells[i]] for i in everything], dtype=np.int64)
        heldout = None if heldout is None else heldout[everything]
    elif tags is not None:
        labels, names = read_tags(where, tags, [row[tags] for row in rows])
    else:
        others = [name for name in columns if name not in (split, flag) and not _unnamed(name)]
        labels, names = read_attributes(where, others, rows, settings.needed)
        if len(names) > 2 and settings.needed is None and (labels.sum(1) == 1).all():
            told.append(
                f"each image of {where} has exactly one of the attributes {some(names)}: where "
                f"they are classes, write that one into a column called label in their place"
            )
    return Labelled(labels=labels, names=names, heldout=heldout, rows=everything, told=told)


def _lowered(columns: Sequence[str], where: str) -> dict[str, str]:
    """The columns by their names in lower case.

    Raises:
        UserError: Where one is there twice.
    """
    seen: set[str] = set()
    for column in columns:
        if (name := column.strip()) in seen:
            raise UserError(f"{where} has the column {name!r} twice: rename or remove one of them")
        seen.add(name)
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(column.strip().lower(), column)
    return by_name


def _class_column(
    rows: Rows, by_name: Mapping[str, str], where: str, settings: ColumnSettings
) -> str | None:
    if (wanted := settings.class_column) is not None:
        found = by_name.get(wanted.strip().lower())
        if found is None:
            raise UserError(
                f"data.class_column={wanted} is no column of {where}: it has "
                f"{some(by_name.values(), most=MAX_COLUMNS)}"
            )
        return found
    if settings.needed is not None:
        return next((by_name[c] for c in _CLASS_COLUMNS if c in by_name), None)
    usual = [by_name[c] for c in _CLASS_COLUMNS if c in by_name]
    ending = [c for lower, c in by_name.items() if lower.endswith(("_label", "_class"))]
    are_bits = all(read_bit(row[c]) is not None for c in ending for row in rows)
    candidates = usual or ([] if are_bits else ending)
    if len(candidates) > 1:
        raise UserError(
            f"{where} can be read in several ways: its columns {', '.join(candidates)} may each "
            f"be the class: pass data.class_column=<one of them>"
        )
    return candidates[0] if candidates else None


def _unnamed(column: str) -> bool:
    """Whether it is the count of rows that pandas writes."""
    return not column.strip() or column.strip().lower().startswith("unnamed:")


def _class(value: object, where: str, column: str, i: int) -> str:
    """The class that a cell names, where numbers have no fraction."""
    if missing(value):
        raise UserError(
            f"image {i} of {where} has no {column!r} (the cell is {value!r}): give it one, or "
            f"remove the row"
        )
    if isinstance(value, float):
        if not value.is_integer():
            raise UserError(
                f"image {i} of {where} has the {column} {value!r}, which is no class: round the "
                f"numbers, write names of ranges in their place, or learn the number itself by "
                f"data.numbers=[{column}] conditioning=continuous"
            )
        return str(int(value))
    return str(value).strip()


def _whole_numbers(cells: list[str]) -> list[str]:
    """What pandas wrote as 0.0 and 1.0 as 0 and 1."""
    if all(re.fullmatch(r"-?\d+\.0", cell) for cell in cells):
        return [cell.removesuffix(".0") for cell in cells]
    return cells


def _labelled(
    cells: Sequence[str], where: str, column: str, heldout: np.ndarray | None, told: list[str]
) -> np.ndarray:
    """The rows that have a label, int64: -1 beside other numbers says that there is none."""
    everything = np.arange(len(cells))
    others = set(cells) - {_UNLABELLED}
    if _UNLABELLED not in cells or others <= {"1"}:
        return everything
    has = np.array([cell != _UNLABELLED for cell in cells])
    of_split = heldout is not None and not has[heldout].any() and bool(has[~heldout].all())
    if not of_split and others <= {"0", "1"}:
        raise UserError(
            f"the column {column!r} of {where} holds -1, 0 and 1, which can be read in two ways: "
            f"as three classes or as two with some images unlabelled: write names there"
        )
    told.append(f"{(~has).sum()} images of {where} have the {column} -1, which is none: not used")
    return everything[has]
