"""Tables of images: CSV, TSV, text, JSON lines or parquet, one row per image.

One column names the file; what the others say is read by :mod:`ccdiff.data.files.columns`.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from ccdiff.data.files.decode import EXTENSIONS
from ccdiff.data.files.parquet import open_parquet
from ccdiff.data.files.trees import FolderTree, Tree
from ccdiff.errors import UserError

__all__ = ["TABLE_SUFFIXES", "Table", "is_table", "read_annotations", "read_table"]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".txt", ".json")
_FILE_COLUMNS = (
    *("file", "file_name", "filename", "image", "image_id", "path"),
    *("image_path", "image_name", "filepath", "file_path", "img", "image_file_name"),
)
_DELIMITERS = ",\t;|"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of a table.

    Arguments:
        name: The file, relative to the tree that it lies in.
        files: The cell of each row that names its image.
        rows: All other cells.
        joined: Other files that the cells were read from too.
    """

    name: str
    files: tuple[str, ...]
    rows: list[dict[str, Any]]
    joined: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Where it lies, relative to the tree."""
        parent = PurePosixPath(self.name).parent.as_posix()
        return "" if parent == "." else parent

    @property
    def columns(self) -> list[str]:
        """Names, but for that of the files."""
        return list(self.rows[0]) if self.rows else []


def is_table(tree: Tree, name: str) -> bool:
    """Whether a file is, by its name, a table; of text and JSON, whether its content is one."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in (".txt", ".json"):
        return suffix in TABLE_SUFFIXES
    try:
        if suffix == ".json":
            rows = _read_json(tree, name)
            return bool(rows) and _file_column(list(rows[0])) is not None
        lines = tree.text(name).splitlines()[:3]
    except UserError:
        return False
    return _has_count(lines) or (len(lines) > 1 and _file_column(_fields(lines[0])) is not None)


def read_table(tree: Tree, name: str, *, file_column: str | None = None) -> Table:
    """Reads a table.

    Arguments:
        tree: Where it lies.
        name: Ends in one of ``TABLE_SUFFIXES``.
        file_column: The column that names the images; None takes one with a usual name.

    Raises:
        UserError: Where it is of another form, names a column twice or has no column of files.
    """
    where = str(tree.path / name)
    rows = _READERS[PurePosixPath(name).suffix.lower()](tree, name)
    if not rows:
        raise UserError(f"the table {where} has no rows")
    columns = list(rows[0])
    column = _file_column(columns, wanted=file_column)
    if column is None:
        told = "" if file_column is None else f" (data.file_column={file_column} is none of these)"
        raise UserError(
            f"no column of {where} names the image: it has {', '.join(columns)}{told}; call it "
            f"one of {', '.join(_FILE_COLUMNS[:6])}, or name it by data.file_column; where "
            f"folders tell the classes, pass data.classes=folders"
        )
    others = [
        c
        for c in columns
        if c != column and not c.strip().lower().endswith(("file_name", "_path"))
    ]
    files = []
    for i, row in enumerate(rows, start=1):
        cell = row[column]
        if cell is None or not str(cell).strip():
            raise UserError(f"image {i} of {where} names no file")
        files.append(str(cell).strip().replace("\\", "/"))
    kept = [{c: row[c] for c in others} for row in rows]
    return Table(name=name, files=tuple(files), rows=kept)


def _file_column(columns: Sequence[str], *, wanted: str | None = None) -> str | None:
    by_name = {name.strip().lower(): name for name in columns}
    if wanted is not None:
        return by_name.get(wanted.strip().lower())
    if (usual := next((by_name[c] for c in _FILE_COLUMNS if c in by_name), None)) is not None:
        return usual
    ending = [name for lower, name in by_name.items() if lower.endswith("_file_name")]
    return ending[0] if len(ending) == 1 else None


def _fields(line: str) -> list[str]:
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


def _read_delimited(tree: Tree, name: str) -> list[dict[str, Any]]:
    path, text = tree.path / name, tree.text(name)
    first = text.split("\n", 1)[0]
    if _has_count(text.splitlines()[:3]):
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
    _refuse_twice(header, path)
    for i, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise UserError(f"row {i} of {path} does not have as many fields as the header")
        rows.append(dict(zip(header, line, strict=True)))
    return rows


def _refuse_twice(columns: Sequence[str], path: Path) -> None:
    for i, column in enumerate(columns):
        if column.strip() in [other.strip() for other in columns[:i]]:
            raise UserError(
                f"{path} has the column {column.strip()!r} twice: rename or remove one of them"
            )


def _has_count(lines: Sequence[str]) -> bool:
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
    _refuse_twice(names, Path(where))
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


def _read_jsonl(tree: Tree, name: str) -> list[dict[str, Any]]:
    path = tree.path / name
    rows: list[dict[str, Any]] = []
    for i, line in enumerate(tree.text(name).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
        # Of nesting and of numbers without end, Python has other errors than of the syntax.
        except (ValueError, RecursionError) as error:
            raise UserError(f"line {i} of {path} is not JSON: {error}") from error
        if not isinstance(row, dict) or (rows and row.keys() != rows[0].keys()):
            raise UserError(f"line {i} of {path} is not an object with the keys of the first line")
        rows.append(row)
    return rows


def _read_json(tree: Tree, name: str) -> list[dict[str, Any]]:
    """A list of objects, one per image, or an object that gives each image its label."""
    path = tree.path / name
    try:
        content = json.loads(tree.text(name), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if isinstance(content, dict):
        if not content or not all(
            PurePosixPath(key).suffix.lower() in EXTENSIONS for key in content
        ):
            raise UserError(f"{path} is no object whose keys are images")
        if any(isinstance(value, Mapping) for value in content.values()):
            content = [
                {"file": key, **(value if isinstance(value, Mapping) else {"label": value})}
                for key, value in content.items()
            ]
        else:
            content = [{"file": key, "label": value} for key, value in content.items()]
    if not isinstance(content, list) or not all(
        isinstance(row, dict) and row.keys() == content[0].keys() for row in content
    ):
        raise UserError(f"{path} is no list of objects with the same keys")
    return content


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in it")
    return found


def _read_parquet(tree: Tree, name: str) -> list[dict[str, Any]]:
    path = tree.path / name
    data = path if isinstance(tree, FolderTree) else BytesIO(tree.read(name))
    file = open_parquet(path, data)
    _refuse_twice(file.schema_arrow.names, path)
    return file.read().to_pylist()


_READERS: Mapping[str, Any] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".txt": _read_delimited,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
