"""The one grammar of labels that users write, for every command.

- One class per image: a name or an index, or a list of them: ``cat``, ``3``, ``[cat, 7]``. A name
  comes first: where a class is *named* "3", the label 3 means that class, else class number 3.
- Attributes: a row of names separated by commas, or a list of rows: ``["Young,Smiling,-Male"]``.
  ``name`` is present and ``-name`` absent. An attribute that is not named is left open by a model
  trained with ``conditioning.attribute_drop``, and absent for any other. A row may also be a list
  of names, or of K bits, 0 or 1.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ccdiff.diffusion.conditioning import FEW_NAMES, Conditioning, MultiHot, label_index
from ccdiff.errors import UserError

__all__ = ["Labels", "parse_labels"]

_MAX_DIGITS = 18


class Labels(NamedTuple):
    """What a request asks for, in ``n`` rows.

    Arguments:
        y: Class indices int64 [n], or attributes uint8 [n, K].
        drop: Attributes that are left open, bool [n, K]; None where everything is told.
        titles: A row in the words of its label, [n].
    """

    y: Tensor
    drop: Tensor | None
    titles: list[str]


def parse_labels(request: Any, conditioning: Conditioning) -> Labels:
    """Reads labels written in the grammar of this module.

    Arguments:
        request: Plain values: a string, an integer, a list of rows, or None for every class.
        conditioning: Of the trained model: which kind of labels it knows, and their names.

    Raises:
        UserError: Where the request does not fit the names, with what would.
    """
    names = conditioning.label_names
    if isinstance(conditioning, MultiHot):
        if request is None:
            raise UserError(f"which attributes? pass labels={_example(names)}")
        return _attribute_rows([_told(row, names) for row in _rows(request)], conditioning)
    indices = range(len(names)) if request is None else [_class(c, names) for c in _rows(request)]
    return Labels(torch.tensor(indices), None, [names[i] for i in indices])


def _rows(request: Any) -> list[Any]:
    rows = request if isinstance(request, list) else [request]
    if not rows:
        raise UserError("labels is an empty list: name at least one, or leave it out")
    return rows


def _text(label: Any) -> str:
    """A name as text: on a command line a name like 3 arrives as a number."""
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise UserError(f"the label {label!r} is neither a name nor a number")
    return str(label).strip()


def _named(text: str, names: Sequence[str]) -> bool:
    """Whether a label has that name, in whichever way its letters are composed."""
    composed = unicodedata.normalize("NFC", text)
    return any(unicodedata.normalize("NFC", name) == composed for name in names)


def _bits(row: list[Any], names: Sequence[str]) -> bool:
    """Whether a row holds bits, which a command line gives as text, and not names."""
    if all(bit in ("0", "1") and bit in names for bit in row):
        return False
    return all(bit in (0, 1, "0", "1") for bit in row)


def _class(label: Any, names: Sequence[str]) -> int:
    """The index of one class, named or numbered."""
    if isinstance(label, list):
        raise UserError(f"the model knows one class per image, but labels has the row {label!r}")
    text = _text(label)
    if _named(text, names) or not text.removeprefix("-").isdecimal():
        return label_index(text, names)
    # Longer ones are outside too, and Python converts no number of any length.
    if len(text) > _MAX_DIGITS or int(text) not in range(len(names)):
        raise UserError(f"the class index {text[:_MAX_DIGITS]} is outside 0..{len(names) - 1}")
    return int(text)


def _told(row: Any, names: Sequence[str]) -> dict[int, bool]:
    """Which attributes a row tells, and whether each is present."""
    if isinstance(row, list) and len(row) == len(names) and _bits(row, names):
        return {k: bool(int(bit)) for k, bit in enumerate(row)}
    words = row if isinstance(row, list) else _text(row).split(",")
    told: dict[int, bool] = {}
    for text in filter(None, map(_text, words)):
        # A name may itself begin with a minus sign.
        absent = text.startswith("-") and not _named(text, names)
        k = label_index(text[1:].strip() if absent else text, names)
        if k in told:
            both = f"both {names[k]} and -{names[k]}" if told[k] == absent else f"{names[k]} twice"
            raise UserError(f"the label {row!r} names {both}: name each attribute once")
        told[k] = not absent
    return told


def _attribute_rows(rows: Sequence[dict[int, bool]], conditioning: MultiHot) -> Labels:
    names, may_be_open = conditioning.label_names, conditioning.attribute_drop > 0
    y = torch.zeros(len(rows), len(names), dtype=torch.uint8)
    drop = torch.ones(len(rows), len(names), dtype=torch.bool)
    for i, row in enumerate(rows):
        for k, present in row.items():
            y[i, k], drop[i, k] = present, False
    return Labels(
        y, drop if may_be_open else None, [_title(row, names, may_be_open) for row in rows]
    )


def _title(row: dict[int, bool], names: Sequence[str], may_be_open: bool) -> str:
    # What is absent goes without saying where everything not named is absent.
    words = [
        name if row[k] else f"-{name}"
        for k, name in enumerate(names)
        if k in row and (row[k] or may_be_open)
    ]
    return ", ".join(words) or ("anything" if may_be_open else "none")


def _example(names: Sequence[str]) -> str:
    words = [names[0], *(f"-{name}" for name in names[1:2])]
    listed = ", ".join(names[:FEW_NAMES]) + (", ..." if len(names) > FEW_NAMES else "")
    return f"""'["{",".join(words)}"]', a row of names, -name for absent (there are: {listed})"""
