"""Tables of text: fields parted by any delimiter, with a header, and the lists that have none."""

import csv
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from ccdiff.data.files.decode import EXTENSIONS
from ccdiff.errors import UserError

__all__ = [
    "fields",
    "has_count",
    "read_annotations",
    "read_delimited",
    "read_list",
    "refuse_twice",
]

_DELIMITERS = ",\t;|"


def fields(line: str) -> list[str]:
    """The fields of the first line of a table, by the delimiter that parts it."""
    return line.split(_delimiter(line))


def _delimiter(header: str) -> str | None:
    """What parts the fields: a usual delimiter, any other sign, or None for blanks."""
    usual = max(_DELIMITERS, key=header.count)
    if usual in header:
        return usual
    others = re.findall(r"[^\w\s\"'./\\-]", header)
    if others:
        return max(set(others), key=others.count)
    return None if len(header.split()) > 1 else ","


def read_delimited(text: str, path: Path) -> list[dict[str, Any]]:
    """The rows of a table with a header, parted by any delimiter, or of CelebA's with its count.

    Arguments:
        text: Its content.
        path: Names it in messages.

    Raises:
        UserError: Where a row has not as many fields as the header, or a column is there twice.
    """
    first = text.split("\n", 1)[0]
    if has_count(text.splitlines()[:3]):
        return _read_counted(text, str(path))
    delimiter = _delimiter(first)
    if delimiter is None:
        lines = [line.split() for line in text.splitlines() if line.strip()]
    else:
        try:
            reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
            lines = [line for line in reader if line]
        except csv.Error as error:
            raise UserError(f"{path} cannot be read as CSV: {error}") from error
    if not lines:
        return []
    header, rows = lines[0], []
    refuse_twice(header, path)
    for i, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise UserError(f"row {i} of {path} does not have as many fields as the header")
        rows.append(dict(zip(header, line, strict=True)))
    return rows


def read_list(text: str) -> list[dict[str, Any]] | None:
    """The rows of a list without a header, an image and its class in each line.

    Such are ``val.txt`` of ImageNet and the lists of Caffe. None where the text is no such list:
    where a line has other fields, the second are fractions or images too, or no two are the same.
    """
    lines = [re.split(r"[\s,;]+", line.strip()) for line in text.splitlines() if line.strip()]
    if any(len(line) != 2 for line in lines):
        return None
    labels = {label for _, label in lines}
    if len(labels) == len(lines) or any(map(_is_fraction, labels)):
        return None
    if any(PurePosixPath(label).suffix.lower() in EXTENSIONS for label in labels):
        return None
    return [{"file": file, "label": label} for file, label in lines]


def _is_fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False


def refuse_twice(columns: Sequence[str], path: Path) -> None:
    """Refuses a table with a column that is there twice.

    Raises:
        UserError: For the first of them.
    """
    for i, column in enumerate(columns):
        if column.strip() in [other.strip() for other in columns[:i]]:
            raise UserError(
                f"{path} has the column {column.strip()!r} twice: rename or remove one of them"
            )


def has_count(lines: Sequence[str]) -> bool:
    """Whether a text begins as CelebA's does: a count, the names of attributes, then rows."""
    if len(lines) < 3 or not lines[0].strip().isdecimal():
        return False
    return len(lines[2].split()) == len(lines[1].split()) + 1


def _read_counted(text: str, where: str) -> list[dict[str, Any]]:
    files, names, bits = read_annotations(text, where)
    return [
        {"file": file, **dict(zip(names, row, strict=True))}
        for file, row in zip(files, bits, strict=True)
    ]


def read_annotations(
    text: str, where: str
) -> tuple[list[str], tuple[str, ...], list[tuple[int, ...]]]:
    """Reads CelebA's ``list_attr_celeba.txt`` or CelebAMask-HQ's ``attribute-anno.txt``.

    The first line counts the images, the second names the attributes, and each of the others names
    an image and says 1 or -1 for each attribute, all parted by spaces.

    Returns:
        File names, attribute names, and bits of each file.

    Raises:
        UserError: Where a line is not of that form or lines are missing.
    """
    lines = text.splitlines()
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    if len(rows) < 2 or len(rows[0][1]) != 1 or not rows[0][1][0].isdecimal():
        raise UserError(
            f"{where} does not begin with the number of images and a line of attribute names"
        )
    count, names = int(rows[0][1][0]), tuple(rows[1][1])
    refuse_twice(names, Path(where))
    files: dict[str, tuple[int, ...]] = {}
    for number, (file, *values) in rows[2:]:
        if len(values) != len(names):
            raise UserError(
                f"line {number} of {where} has {len(values)} values for {len(names)} attributes"
            )
        if not {"1", "-1"}.issuperset(values):
            odd = next(value for value in values if value not in ("1", "-1"))
            raise UserError(f"line {number} of {where} has the value {odd!r}: use 1 or -1")
        if file in files:
            raise UserError(f"line {number} of {where} names {file} a second time")
        files[file] = tuple(int(value == "1") for value in values)
    if len(files) != count:
        raise UserError(
            f"{where} announces {count} images but names {len(files)}: it is incomplete, fetch it "
            f"again"
        )
    return list(files), names, list(files.values())
