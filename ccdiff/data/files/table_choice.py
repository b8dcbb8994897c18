"""Which tables of a tree say what its images show: one, or one of each part of a split."""

import posixpath
from collections import Counter
from pathlib import PurePosixPath

from ccdiff.data.files.splits import SPLIT_COLUMNS, split_of
from ccdiff.data.files.tables import TABLE_SUFFIXES, Table, is_table, read_table
from ccdiff.data.files.trees import Tree
from ccdiff.errors import UserError

__all__ = ["find_tables"]

# Other tables of CelebA, which say where a face lies and whose it is.
_NO_LABELS = ("list_bbox_", "list_landmarks_", "identity_")
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
    tables = [read(name) for name in named]
    partitions = [
        t for t in tables if t.columns and set(map(str.lower, t.columns)) <= {*SPLIT_COLUMNS}
    ]
    labelled = [t for t in tables if t not in partitions]
    if len(partitions) == 1 and len(labelled) == 1:
        return [_joined(tree, labelled[0], partitions[0])]
    parts = [PurePosixPath(t.name) for t in tables]
    of_split = [split_of(part.parent.name if depth else part.stem) for part in parts]
    if len(tables) > 1 and (
        None in of_split
        or len({(p.parent, p.stem if not depth else "") for p in parts}) < len(parts)
    ):
        names = ", ".join(table.name for table in tables)
        raise UserError(f"{tree.path} holds several tables: pass data.table=<one of {names}>")
    return tables


def _is_there(tree: Tree, name: str) -> bool:
    """Whether a tree has the file; one that leads out of it is told by who reads it."""
    return name in set(tree.names) or name.startswith("../")


def _joined(tree: Tree, table: Table, partition: Table) -> Table:
    """A table with the split that another one names, as CelebA's partition does."""
    (column,) = partition.columns[:1]
    told = {file: row[column] for file, row in zip(partition.files, partition.rows, strict=True)}
    if missing := next((file for file in table.files if file not in told), None):
        raise UserError(
            f"{tree.path / partition.name} does not name {missing}, as {table.name} does"
        )
    rows = [
        {**row, "split": told[file]} for file, row in zip(table.files, table.rows, strict=True)
    ]
    return Table(name=table.name, files=table.files, rows=rows, joined=(partition.name,))
