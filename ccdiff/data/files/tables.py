"""Tables of images: CSV, TSV, text, JSON lines or parquet, one row per image.

One column names the file; what the others say is read by :mod:`ccdiff.data.files.columns`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from ccdiff.data.files.coco import coco_rows, is_coco
from ccdiff.data.files.decode import EXTENSIONS
from ccdiff.data.files.delimited import fields, has_count, read_delimited, read_list, refuse_twice
from ccdiff.data.files.levels import MAX_COLUMNS, some
from ccdiff.data.files.parquet import open_parquet
from ccdiff.data.files.trees import FolderTree, Tree
from ccdiff.errors import UserError

__all__ = [
    "TABLE_SUFFIXES",
    "NoFileColumn",
    "Table",
    "is_table",
    "read_table",
]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".txt", ".json")
# In letters alone: image_id, ImageId and "Image ID" are one.
_FILE_COLUMNS = (
    *("file", "filename", "image", "imageid", "path", "imagepath", "imagename", "filepath"),
    *("img", "imagefilename", "imageindex", "imagefile", "imgpath", "imgname", "imgid"),
)
# Names images where no other column does, and where each of its cells is the name of one.
_ID_COLUMN = "id"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of a table.

    Arguments:
        name: The file, relative to the tree that it lies in.
        files: The cell of each row that names its image.
        rows: All other cells.
        joined: Other files that the cells were read from too.
        heldout: Whether its images are held out; None where it does not say of all alike.
        told: What a user should know of the reading.
    """

    name: str
    files: tuple[str, ...]
    rows: list[dict[str, Any]]
    joined: tuple[str, ...] = ()
    heldout: bool | None = None
    told: tuple[str, ...] = ()

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
            content = _json(tree, name)
            if is_coco(content):
                return True  # Where it contradicts itself, that is told on reading.
            rows = _rows_of_json(content, tree.path / name)
            return bool(rows) and _file_column(list(rows[0])) is not None
        lines = tree.text(name).splitlines()[:3]
    except UserError:
        return False
    return has_count(lines) or (len(lines) > 1 and _file_column(fields(lines[0])) is not None)


class NoFileColumn(UserError):
    """A table of which no column names images."""


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
    told = []
    if column is None and file_column is None:
        column = _ids(tree, rows)
        if column is not None:
            told.append(f"the column {column!r} of {where} names the images")
    if column is None:
        none = "" if file_column is None else f" (data.file_column={file_column} is none of these)"
        if not tree.image_names:
            raise NoFileColumn(
                f"{where} names no image files, and none lie in {tree.path}: pixels in a table "
                f"are not read; write them as images, or as arrays images and labels in one .npz"
            )
        raise NoFileColumn(
            f"no column of {where} names the image: it has {some(columns, most=MAX_COLUMNS)}"
            f"{none}; call it one of file, file_name, filename, image, image_id, path, or name it "
            f"by data.file_column; where folders tell the classes, pass data.classes=folders"
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
    return Table(name=name, files=tuple(files), rows=kept, told=tuple(told))


def _file_column(columns: Sequence[str], *, wanted: str | None = None) -> str | None:
    by_name = {name.strip().lower(): name for name in columns}
    if wanted is not None:
        return by_name.get(wanted.strip().lower())
    plain = {re.sub(r"[\W_]", "", lower): name for lower, name in reversed(by_name.items())}
    if (usual := next((plain[c] for c in _FILE_COLUMNS if c in plain), None)) is not None:
        return usual
    ending = [name for lower, name in by_name.items() if lower.endswith("_file_name")]
    return ending[0] if len(ending) == 1 else None


def _ids(tree: Tree, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column ``id``, where each of its cells is the name of an image."""
    column = next((name for name in rows[0] if name.strip().lower() == _ID_COLUMN), None)
    if column is None:
        return None
    paths = [PurePosixPath(name) for name in tree.image_names]
    there = {path.stem for path in paths} | {path.name for path in paths}
    return column if all(str(row[column]).strip() in there for row in rows) else None


def _read_delimited(tree: Tree, name: str) -> list[dict[str, Any]]:
    return read_delimited(tree.text(name), tree.path / name)


def _read_text(tree: Tree, name: str) -> list[dict[str, Any]]:
    """A table with a header, or else a list of files with their classes."""
    text = tree.text(name)
    lines = text.splitlines()
    if lines and not has_count(lines[:3]) and _file_column(fields(lines[0])) is None:
        listed = read_list(text)
        if listed is not None:
            return listed
    return read_delimited(text, tree.path / name)


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
    return _rows_of_json(_json(tree, name), tree.path / name)


def _json(tree: Tree, name: str) -> Any:
    try:
        return json.loads(tree.text(name), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{tree.path / name} is not JSON: {error}") from error


def _rows_of_json(content: Any, path: Path) -> list[dict[str, Any]]:
    """A list of objects, one per image, an object that gives each image its label, or COCO's."""
    if is_coco(content):
        return coco_rows(content, str(path))
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
    refuse_twice(file.schema_arrow.names, path)
    return file.read().to_pylist()


_READERS: Mapping[str, Any] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".txt": _read_text,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
