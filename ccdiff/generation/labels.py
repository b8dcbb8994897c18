"""The one grammar of labels that users write, for every command.

- One class per image: a name or an index, or a list of them: ``cat``, ``3``, ``[cat, 7]``. A name
  comes first: where a class is *named* "3", the label 3 means that class, else class number 3.
- Attributes: a row of names separated by commas, or a list of rows: ``["Young,Smiling,-Male"]``.
  ``name`` is present and ``-name`` absent. An attribute that is not named is left open by a model
  trained with ``conditioning.attribute_drop``, and absent for any other. A row may also be a list
  of names, or of K bits, 0 or 1.
- Numbers: a mapping of names to numbers, or the text ``angle=30,size=2``, or a list of them; where
  there is one number alone, also it alone: ``[10, 20]``. One that is not named is left open by a
  model that has seen images without it, and asked for by any other.
"""

import logging
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ccdiff.diffusion.conditioning import FEW_NAMES, Conditioning, MultiHot, label_index
from ccdiff.diffusion.continuous import Continuous
from ccdiff.errors import UserError

__all__ = ["Labels", "frequent_rows", "label_title", "parse_labels"]

log = logging.getLogger(__name__)

_MAX_DIGITS = 18


class Labels(NamedTuple):
    """What a request asks for, in ``n`` rows.

    Arguments:
        y: Class indices int64 [n], attributes uint8 [n, K], or numbers float32 [n, K], NaN where
            one is left open.
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
    if isinstance(conditioning, Continuous):
        if request is None:
            raise UserError(f"which numbers? pass labels={_number_example(conditioning)}")
        return _number_rows([_numbers(row, names) for row in _rows(request)], conditioning)
    indices = range(len(names)) if request is None else [_class(c, names) for c in _rows(request)]
    return Labels(torch.tensor(indices), None, [names[i] for i in indices])


def label_title(y: Tensor, names: Sequence[str]) -> str:
    """The label of an image in words.

    Arguments:
        y: Of one image: a class index [], attributes uint8 [K], or numbers float32 [K].
        names: One per class, attribute or number.
    """
    if y.ndim == 0:
        return names[int(y)]
    pairs = zip(names, y.tolist(), strict=True)
    if y.is_floating_point():
        return ", ".join(f"{name}={x:.6g}" for name, x in pairs if x == x) or "anything"
    return ", ".join(name for name, bit in pairs if bit) or "none"


def frequent_rows(labels: Tensor) -> Tensor:
    """The combinations of attributes that there are, the most frequent first, [R, K].

    Arguments:
        labels: Attributes, uint8 [N, K].
    """
    rows, counts = labels.unique(dim=0, return_counts=True)
    return rows[counts.argsort(descending=True, stable=True)]


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


def _numbers(row: Any, names: Sequence[str]) -> dict[int, float]:
    """Which numbers a row tells."""
    if not isinstance(row, Mapping):
        texts = row if isinstance(row, list) else str(row).split(",")
        if len(texts) == len(names) and not any("=" in str(text) for text in texts):
            row = dict(zip(names, texts, strict=True))
        else:
            pairs = [str(text).partition("=") for text in texts]
            row = {}
            for name, equals, value in pairs:
                if not equals:
                    raise UserError(
                        f"the label {name!r} is no name=number; the numbers are {', '.join(names)}"
                    )
                if name.strip() in row:
                    raise UserError(f"the label names {name.strip()} twice")
                row[name.strip()] = value
    told: dict[int, float] = {}
    for name, value in row.items():
        k = label_index(str(name).strip(), names)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not abs(number) <= torch.finfo(torch.float32).max:
            raise UserError(f"the label {names[k]}={value} is no finite number")
        if k in told:
            raise UserError(f"the label names {names[k]} twice")
        told[k] = number
    return told


def _number_rows(rows: Sequence[dict[int, float]], conditioning: Continuous) -> Labels:
    names, may_be_open = conditioning.label_names, conditioning.may_be_missing.tolist()
    y = torch.full((len(rows), len(names)), math.nan)
    for i, row in enumerate(rows):
        for k, number in row.items():
            y[i, k] = number
        if lacking := [
            name for k, name in enumerate(names) if k not in row and not may_be_open[k]
        ]:
            raise UserError(
                f"the label {label_title(y[i], names)} does not name {', '.join(lacking)}, and "
                f"the model has seen no image without: name every number, or train with "
                f"conditioning.number_drop=0.1"
            )
    low, high = conditioning.low.cpu(), conditioning.high.cpu()
    for k, name in enumerate(names):
        column = y[:, k]
        outside = column[(column < low[k]) | (column > high[k])]
        if len(outside):
            log.warning(
                "%s=%g lies outside of the training images, which go from %g to %g",
                *(name, outside[0], low[k], high[k]),
            )
    return Labels(y, None, [label_title(row, names) for row in y])


def _number_example(conditioning: Continuous) -> str:
    names = conditioning.label_names
    spans = zip(names, conditioning.low.tolist(), conditioning.high.tolist(), strict=True)
    listed = ", ".join(f"{name} from {low:g} to {high:g}" for name, low, high in spans)
    pairs = zip(names, conditioning.mean.tolist(), strict=True)
    example = ", ".join(f"{name}: {mean:.3g}" for name, mean in pairs)
    return f"'[{{{example}}}]', a mapping of names to numbers (there are: {listed})"


def _example(names: Sequence[str]) -> str:
    words = [names[0], *(f"-{name}" for name in names[1:2])]
    listed = ", ".join(names[:FEW_NAMES]) + (", ..." if len(names) > FEW_NAMES else "")
    return f"""'["{",".join(words)}"]', a row of names, -name for absent (there are: {listed})"""
