"""Which tables of a tree say what its images show: one, or one of each part of a split."""

import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from ccdiff.data.files.delimited import read_list
from ccdiff.data.files.splits import SPLIT_COLUMNS, split_of, told_apart
from ccdiff.data.files.tables import TABLE_SUFFIXES, NoFileColumn, Table, is_table, read_table
from ccdiff.data.files.trees import Tree
from ccdiff.errors import UserError

__all__ = ["find_lists", "find_tables"]

# Other tables of CelebA, which say where a face lies and whose it is.
_NO_LABELS = ("list_bbox_", "list_landmarks_", "identity_")
# What competitions have filled in, with labels of no meaning.
_FILLED_IN = "submission"
_MAX_TABLES = 20


def find_tables(tree: Tree, *, table: str | None, file_column: str | None) -> list[Table]:
    """The tables that say what images show: one, or one of each part of a split."""

    def read(name: str) -> Table:
        return read_table(tree, name, file_column=file_column)

    if table is not None:
        name = posixpath.normpath(table)
        if not name.lower().endswith(TABLE_SUFFIXES) or not _is_there(tree, name):
            raise UserError(
                f"data.table={table} is not a file in {tree.path.absolute()} that ends "
                f"in {', '.join(TABLE_SUFFIXES)}"
            )
        return [read(name)]
    near = [PurePosixPath(n) for n in tree.names if n.count("/") <= 2]
    beside = Counter((path.parent, path.suffix) for path in near)
    # Many files of text in one folder belong to an image each.
    few = [str(path) for path in near if beside[path.parent, path.suffix] <= _MAX_TABLES]
    named = [name for name in few if is_table(tree, name)]
    named = [n for n in named if not PurePosixPath(n).name.startswith(_NO_LABELS)]
    depth = min((name.count("/") for name in named), default=0)
    named = [name for name in named if name.count("/") == depth]
    if not named:
        return []
    tables = _readable(named, read)
    partitions = [
        t for t in tables if t.columns and set(map(str.lower, t.columns)) <= {*SPLIT_COLUMNS}
    ]
    labelled = [t for t in tables if t not in partitions]
    if len(partitions) == 1 and len(labelled) == 1:
        return [_joined(tree, labelled[0], partitions[0])]
    if len(tables) < 2:
        return tables
    parts = [PurePosixPath(t.name) for t in tables]
    of_split = [split_of(part.parent.name) for part in parts]
    in_folders = len({part.parent for part in parts})
    if None in of_split or in_folders < len(parts):
        told_by_name = told_apart([part.stem for part in parts]) if in_folders == 1 else None
        of_split = [None] if told_by_name is None else [*told_by_name]
    if None in of_split:
        names = ", ".join(table.name for table in tables)
        raise UserError(f"{tree.path} holds several tables: pass data.table=<one of {names}>")
    return [replace(t, heldout=held) for t, held in zip(tables, of_split, strict=True)]


def find_lists(tree: Tree, images: Sequence[str]) -> list[Table]:
    """Texts without a header that give each of some images its class, see :func:`read_list`.

    Raises:
        UserError: Where there are several that are no parts of a split.
    """
    there = {PurePosixPath(name).name for name in images}
    there |= {PurePosixPath(name).stem for name in images}
    texts = [n for n in tree.names if n.lower().endswith(".txt") and n.count("/") <= 2]
    lists = []
    for name in texts if len(texts) <= _MAX_TABLES else ():
        rows = _list_or_none(tree, name)
        if rows and all(PurePosixPath(row["file"]).name in there for row in rows):
            lists.append(name)
    tables = [read_table(tree, name) for name in lists]
    held = told_apart([PurePosixPath(name).stem for name in lists])
    in_folders = len({PurePosixPath(name).parent for name in lists})
    if len(tables) > 1 and (held is None or in_folders > 1):
        raise UserError(
            f"{tree.path} holds several lists of images and classes: pass data.table=<one of "
            f"{', '.join(lists)}>, or data.classes=none to make all images one class"
        )
    parts: list[bool | None] = [None] * len(tables) if held is None else [*held]
    told = "{} has no header: each line is read as an image and its class"
    return [
        replace(table, heldout=part, told=(*table.told, told.format(table.name)))
        for table, part in zip(tables, parts, strict=True)
    ]


def _list_or_none(tree: Tree, name: str) -> list[dict[str, Any]] | None:
    try:
        return read_list(tree.text(name))
    except UserError:  # No text, or not to be read: it is passed over as other files are.
        return None


def _readable(names: Sequence[str], read: Callable[[str], Table]) -> list[Table]:
    """The tables that name images; those that do not are told with the first of the others.

    Raises:
        NoFileColumn: Where none of them does.
    """
    filled_in = [name for name in names if _FILLED_IN in PurePosixPath(name).stem.lower()]
    if len(filled_in) == len(names):
        filled_in = []
    tables: list[Table] = []
    others = [f"{name} is for answers that are handed in, and not used" for name in filled_in]
    errors: list[NoFileColumn] = []
    for name in names:
        if name in filled_in:
            continue
        try:
            tables.append(read(name))
        except NoFileColumn as error:
            errors.append(error)
            others.append(f"no column of {name} names images: it is not used")
    if not tables:
        raise errors[0]
    return [replace(tables[0], told=(*tables[0].told, *others)), *tables[1:]]


def _is_there(tree: Tree, name: str) -> bool:
    """Whether a tree has the file; one that leads out of it is told by who reads it."""
    return name in set(tree.names) or name.startswith("../")


def _joined(tree: Tree, table: Table, partition: Table) -> Table:
    """A table with the split that another one names, as CelebA's partition does."""
    (column,) = partition.columns[:1]
    part_of = {
        file: row[column] for file, row in zip(partition.files, partition.rows, strict=True)
    }
    if missing := next((file for file in table.files if file not in part_of), None):
        raise UserError(
            f"{tree.path / partition.name} does not name {missing}, as {table.name} does"
        )
    rows = [
        {**row, "split": part_of[file]} for file, row in zip(table.files, table.rows, strict=True)
    ]
    told = (*table.told, *partition.told)
    return replace(table, rows=rows, joined=(partition.name,), told=told)
