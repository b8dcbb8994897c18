"""Columns of real numbers as labels."""

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from ccdiff.errors import UserError

__all__ = ["read_numbers", "refuse_other_labels"]

_MISSING = frozenset({"", "nan", "null", "none", "na", "n/a", "<na>"})


def refuse_other_labels(others: Mapping[str, object]) -> None:
    """Refuses settings that say something else of the labels than ``data.numbers`` does.

    Arguments:
        others: Values of settings of the data, by their names; None where one says nothing.

    Raises:
        UserError: For the first that says something.
    """
    if beside := next((key for key, value in others.items() if value is not None), None):
        raise UserError(f"pass data.numbers or data.{beside}, not both")


def read_numbers(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    where: str,
    wanted: Sequence[str],
) -> np.ndarray:
    """The numbers of each row, float32 [N, K], NaN where a cell is empty.

    Arguments:
        rows: One for each image.
        columns: The columns there are, by their names in lower case.
        where: Names the table in messages.
        wanted: The columns to read, in this order.

    Raises:
        UserError: Where there is no such column, or a cell holds anything but a finite number.
    """
    if len(set(wanted)) < len(wanted) or not wanted:
        raise UserError(f"data.numbers must name each column once, got {list(wanted)}")
    found = np.full((len(rows), len(wanted)), np.nan, dtype=np.float32)
    for k, name in enumerate(wanted):
        column = columns.get(name.strip().lower())
        if column is None:
            near = get_close_matches(name.lower(), columns, n=3)
            hint = f"did you mean {' or '.join(columns[one] for one in near)}?" if near else ""
            listed = hint or f"it has {', '.join(columns.values()) or 'none besides the image'}"
            raise UserError(f"data.numbers: {where} has no column {name!r}; {listed}")
        for i, row in enumerate(rows):
            found[i, k] = _number(row[column], f"column {name!r} of image {i + 1} of {where}")
        if np.isnan(found[:, k]).all():
            raise UserError(f"column {name!r} of {where} holds no number at all")
    return found


def _number(value: object, what: str) -> float:
    if value is None or (isinstance(value, str) and value.strip().lower() in _MISSING):
        return math.nan
    try:
        # A flag is no amount, and neither is a list.
        number = math.inf if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.inf
    if isinstance(value, float) and math.isnan(value):
        return math.nan
    if not abs(number) <= float(np.finfo(np.float32).max):
        raise UserError(
            f"{what} is {value!r}, which is no finite number: mend the cell, or leave it empty "
            f"where it is not known"
        )
    return number
