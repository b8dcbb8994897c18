"""Tables that say what images show: CSV, JSON lines or parquet, one row per image.

One column names the file; ``split`` may say which rows are held out; the others are read as

- ``label`` or ``class``: one class per image;
- else ``tags``, ``attributes`` or ``caption``: what is present, as a list, a mapping of names to
  yes and no, or a text separated by commas, semicolons or bars;
- else every column is one attribute: 1, true, yes or 0, -1, false, no.
"""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from ccdiff.data.files.class_folders import HELD_OUT, TRAIN
from ccdiff.data.files.listing import natural_key
from ccdiff.data.files.parquet import open_parquet
from ccdiff.errors import UserError

__all__ = ["TABLE_SUFFIXES", "Table", "read_rows", "read_table"]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_FILE_COLUMNS = ("file", "file_name", "filename", "image", "image_id", "path")
_CLASS_COLUMNS = ("label", "class")
_TAG_COLUMNS = ("tags", "attributes", "caption")
_SPLIT_COLUMN = "split"
_MAX_TAGS = 4096
_BITS = {"1": 1, "true": 1, "yes": 1, "0": 0, "-1": 0, "false": 0, "no": 0}


@dataclass(frozen=True)
class Table:
    """What a table says of its images.

    Arguments:
        files: One path per image, relative to the table.
        labels: int64 [N] class indices or uint8 [N, K] attribute bits.
        label_names: Of the classes or attributes.
        heldout: Which images are held out, bool [N]; none where the table does not say.
    """

    files: tuple[str, ...]
    labels: np.ndarray
    label_names: tuple[str, ...]
    heldout: np.ndarray | None


def _read_bit(value: object) -> int | None:
    """1 for 1, true and yes; 0 for 0, -1, false and no; none for anything else."""
    text = str(value).strip().lower()
    return _BITS.get(text.removesuffix(".0"))


def read_table(path: Path, *, needed: Sequence[str] | None = None) -> Table:
    """Reads a table.

    Arguments:
        path: Ends in one of ``TABLE_SUFFIXES``.
        needed: Attributes that will be used: where each is a column, the others are left out if
            they are none; by default all columns must be attributes.

    Raises:
        UserError: Where the table is not of the form that this module describes.
    """
    rows = _READERS[path.suffix.lower()](path)
    if not rows:
        raise UserError(f"the table {path} has no rows")
    by_name = {name.strip().lower(): name for name in rows[0]}
    file_column = next((by_name[c] for c in _FILE_COLUMNS if c in by_name), None)
    if file_column is None:
        raise UserError(
            f"no column of {path} names the image: it has {', '.join(rows[0])}; call it one of "
            f"{', '.join(_FILE_COLUMNS)}"
        )
    files = tuple(str(row[file_column]).strip().replace("\\", "/") for row in rows)
    _refuse_repeated(path, files)
    rest = [{name: row[name] for name in row if name != file_column} for row in rows]
    return Table(files, *read_rows(rest, str(path), needed=needed))


def read_rows(
    rows: Sequence[Mapping[str, Any]], where: str, *, needed: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray | None]:
    """Labels, their names and what is held out, as in :class:`Table`.

    Arguments:
        rows: One for each image, without the column that names its file.
        where: Names the table in messages.
        needed: As for :func:`read_table`.
    """
    by_name = {name.strip().lower(): name for name in rows[0]}
    split = by_name.get(_SPLIT_COLUMN)
    heldout = None if split is None else _read_split(where, [row[split] for row in rows])
    classes = next((by_name[c] for c in _CLASS_COLUMNS if c in by_name), None)
    tags = next((by_name[c] for c in _TAG_COLUMNS if c in by_name), None)
    if classes is not None:
        labels, names = _read_classes(where, classes, [row[classes] for row in rows])
    elif tags is not None:
        labels, names = _read_tags(where, tags, [row[tags] for row in rows])
    else:
        others = [name for name in rows[0] if name != split]
        labels, names = _read_attributes(where, others, rows, needed)
    return labels, names, heldout


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: {error}") from error


def _read_csv(path: Path) -> list[dict[str, Any]]:
    lines = StringIO(_read_text(path), newline="")
    delimiter = max(",;\t", key=lines.readline().count)
    lines.seek(0)
    try:
        rows = list(csv.DictReader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from error
    for i, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise UserError(f"row {i} of {path} does not have as many fields as the header")
    return rows


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        # Of nesting and of numbers without end, Python has other errors than of the syntax.
        except (ValueError, RecursionError) as error:
            raise UserError(f"line {i} of {path} is not JSON: {error}") from error
        if not isinstance(row, dict) or (rows and row.keys() != rows[0].keys()):
            raise UserError(f"line {i} of {path} is not an object with the keys of the first line")
        rows.append(row)
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    return open_parquet(path).read().to_pylist()


_READERS = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _refuse_repeated(path: Path, files: Sequence[str]) -> None:
    seen: set[str] = set()
    for i, name in enumerate(files, start=1):
        if not name or name in seen:
            what = f"names {name!r} a second time" if name else "names no file"
            raise UserError(f"image {i} of {path} {what}")
        seen.add(name)


def _read_split(where: str, values: Iterable[object]) -> np.ndarray:
    heldout = []
    for i, value in enumerate(values, start=1):
        text = str(value).strip().lower()
        if text not in (*TRAIN, *HELD_OUT):
            raise UserError(
                f"image {i} of {where} has the split {value!r}; use {TRAIN[0]} or {HELD_OUT[0]}"
            )
        heldout.append(text in HELD_OUT)
    return np.array(heldout)


def _read_classes(
    where: str, column: str, values: Iterable[object]
) -> tuple[np.ndarray, tuple[str, ...]]:
    names = [str(value).strip() for value in values]
    if "" in names:
        raise UserError(f"image {names.index('') + 1} of {where} has no {column!r}")
    classes = tuple(sorted(set(names), key=natural_key))
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[name] for name in names], dtype=np.int64), classes


def _tags(value: object) -> set[str]:
    """The names that one cell of a tag column says are present."""
    if value is None:
        return set()
    if isinstance(value, Mapping):
        bits = {str(name): _read_bit(bit) for name, bit in value.items()}
        if None in bits.values():
            raise ValueError(f"{value!r} maps names to something else than 0 and 1")
        return {name.strip() for name, bit in bits.items() if bit}
    parts = re.split("[,;|]", value) if isinstance(value, str) else value
    if not isinstance(parts, Iterable):
        raise ValueError(f"{value!r} is no list of tags")
    return {tag for part in parts if (tag := str(part).strip())}


def _read_tags(
    where: str, column: str, values: Sequence[object]
) -> tuple[np.ndarray, tuple[str, ...]]:
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


def _read_attributes(
    where: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, object]],
    needed: Sequence[str] | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    found: dict[str, list[int]] = {}
    for column in columns:
        name = column.strip()
        bits = [_read_bit(row[column]) for row in rows]
        if None not in bits:
            found[name] = [bit for bit in bits if bit is not None]
        elif needed is None or name in needed:
            i = bits.index(None)
            raise UserError(
                f"column {name!r} of image {i + 1} of {where} is {rows[i][column]!r}, which is "
                f"neither 1 nor 0 (or -1); choose the columns that are by data.attributes=[...]"
            )
    if not found:
        raise UserError(f"{where} names images but no attribute of them: add a column for each")
    return np.array(list(found.values()), dtype=np.uint8).T.copy(), tuple(found)
