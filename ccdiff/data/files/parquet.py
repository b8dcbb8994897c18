"""Images in parquet files, as Hugging Face's data sets store them."""

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from ccdiff.data.files.decode import BadImage
from ccdiff.data.files.listing import fingerprint, inside
from ccdiff.data.files.splits import split_of
from ccdiff.errors import UserError
from ccdiff.system.text import natural_key

__all__ = ["ParquetImages", "bytes_of", "find_parquet", "open_parquet"]

_IMAGE_COLUMNS = ("image", "img")


def open_parquet(path: Path, content: Any = None) -> Any:
    """A ``pyarrow.parquet.ParquetFile``.

    Arguments:
        path: Names the file.
        content: The file itself, where it does not lie at ``path``.

    Raises:
        UserError: Where pyarrow is not installed or the file is not parquet.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError(
            f"{path} is a parquet file, which pyarrow reads: pip install 'ccdiff[parquet]'"
        ) from error
    try:
        return ParquetFile(path if content is None else content)
    except (ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as parquet: {error}") from error


def _image_column(file: Any, *, wanted: str | None = None) -> str | None:
    """The column that holds encoded images, as bytes or as a struct with ``bytes``; or none."""
    from pyarrow import types

    for name in _IMAGE_COLUMNS if wanted is None else (wanted,):
        index = file.schema_arrow.get_field_index(name)
        if index < 0:
            continue
        kind = file.schema_arrow.field(index).type
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return name
        if types.is_binary(kind) or types.is_large_binary(kind):
            return name
    return None


def _class_names(file: Any, column: str) -> tuple[str, ...] | None:
    """The names of a class column, where the file's Hugging Face metadata give them."""
    metadata = (file.schema_arrow.metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    try:
        feature = json.loads(metadata)["info"]["features"].get(column, {})
        # Of a list of classes, the names are those of its items.
        if isinstance(feature, list):
            feature = feature[0]
        names = feature.get("names") or (feature.get("feature") or {}).get("names")
    except (ValueError, KeyError, AttributeError, TypeError, IndexError):
        return None
    return None if names is None else tuple(map(str, names))


def _holds(value: Any, kind: type) -> bool:
    """Whether a cell, or one of a list in it, is of a kind; -1 stands for no class."""
    if isinstance(value, list):
        return any(_holds(one, kind) for one in value)
    return isinstance(value, kind) and value != -1


def find_parquet(
    place: Path, names: Sequence[str], *, image_column: str | None = None
) -> "ParquetImages | None":
    """The images in the parquet files of a folder, if there are any.

    Arguments:
        place: The folder.
        names: Files in it, relative; those that are no parquet files are of no concern.
        image_column: The column of images; None takes ``image`` or ``img``.

    Raises:
        UserError: Where files of several data sets lie there.
    """
    files = sorted((name for name in names if name.endswith(".parquet")), key=natural_key)
    files = [
        name
        for name in files
        if _image_column(open_parquet(inside(place, place / name)), wanted=image_column)
    ]
    if not files:
        return None
    # The folders that are no part of a split, such as configurations of the set.
    sets = {
        tuple(
            part for part in Path(name).parent.parts if split_of(part) is None and part != "data"
        )
        for name in files
    }
    if len(sets) > 1:
        listed = ", ".join(sorted("/".join(parts) or "." for parts in sets))
        raise UserError(
            f"{place} holds parquet files of several sets: pass data.root={place}/<one of them>, "
            f"of {listed}"
        )
    return ParquetImages(place, files, image_column=image_column)


def _held_out(name: str) -> bool:
    """Whether the name of a file or of a folder that it lies in says that it is held out."""
    path = Path(name)
    return any(split_of(part) for part in (*path.parent.parts, path.stem))


class ParquetImages:
    """The images of some parquet files, one row group in memory at a time.

    Arguments:
        root: Folder of the files.
        files: Their names relative to it; those called ``validation``, ``test`` and the like, or
            in folders that are, hold what is held out.
        image_column: The column of images; None takes ``image`` or ``img``.
    """

    def __init__(
        self, root: Path, files: Sequence[str], *, image_column: str | None = None
    ) -> None:
        self.root = root
        self.files = tuple(files)
        self.image_column = image_column
        self._groups: list[tuple[str, int]] = []
        counts = []
        names: list[str] = []
        heldout: list[bool] = []
        for name in self.files:
            metadata = open_parquet(root / name).metadata
            for group in range(metadata.num_row_groups):
                self._groups.append((name, group))
                counts.append(metadata.row_group(group).num_rows)
            names += [f"{name}[{row}]" for row in range(metadata.num_rows)]
            heldout += [_held_out(name)] * metadata.num_rows
        if not names:
            raise UserError(f"the parquet files in {root} have no rows")
        self.names: Sequence[str] = names
        self.heldout = np.array(heldout)
        self._ends = list(accumulate(counts))
        self._held: tuple[int, list[Any]] = (-1, [])

    def rows(self) -> list[dict[str, Any]]:
        """All but the images; classes are named where the files give the names.

        Raises:
            UserError: Where a class has no name, or some files name classes that others number.
        """
        rows: list[dict[str, Any]] = []
        named: dict[str, str] = {}
        numbered: dict[str, str] = {}
        for name in self.files:
            file = open_parquet(self.root / name)
            images = _image_column(file, wanted=self.image_column)
            columns = [c for c in file.schema_arrow.names if c != images]
            if len(set(columns)) < len(columns):
                raise UserError(f"{self.root / name} has a column twice: {', '.join(columns)}")
            # Without columns, pyarrow forgets how many rows there are.
            table = file.read(columns=columns).to_pylist() if columns else []
            table = table or [{} for _ in range(file.metadata.num_rows)]
            for column in columns:
                if (names := _class_names(file, column)) is None:
                    if any(_holds(row[column], int) for row in table):
                        numbered.setdefault(column, name)
                    elif any(_holds(row[column], str) for row in table):
                        named.setdefault(column, name)
                    continue
                named.setdefault(column, name)
                for i, row in enumerate(table):
                    row[column] = self._named(row[column], names, f"row {i} of {name}", column)
            if rows and table and rows[0].keys() != table[0].keys():
                raise UserError(
                    f"{self.root / name} has other columns than {self.files[0]}: "
                    f"{', '.join(table[0])} and {', '.join(rows[0])}"
                )
            rows += table
        for column in named.keys() & numbered.keys():
            # A number has a name in its own file alone: "0" beside "cat" would be a class more.
            raise UserError(
                f"in {self.root}, {named[column]} names the classes of its column {column}, and "
                f"{numbered[column]} has numbers without names: write both with the names, or "
                "leave one of them out"
            )
        return rows

    def _named(self, value: Any, names: tuple[str, ...], where: str, column: str) -> Any:
        """The name of a class, of each of a list of classes, or -1 where there is none."""
        if isinstance(value, list):
            return [self._named(one, names, where, column) for one in value]
        if value is None or value == -1:
            return value
        if value not in range(len(names)):
            raise UserError(
                f"{where} in {self.root} has the {column} {value}, which is none of the "
                f"{len(names)} classes that the file names"
            )
        return names[value]

    def fingerprint(self) -> str:
        """Changes when any file does."""
        return fingerprint(self.root, self.files)

    def reader(self, i: int) -> Callable[[], bytes]:
        """What gives the bytes of image ``i``; cheap for ascending ``i``."""
        group = bisect_right(self._ends, i)
        if self._held[0] != group:
            name, number = self._groups[group]
            file = open_parquet(self.root / name)
            column = _image_column(file, wanted=self.image_column)
            self._held = group, file.read_row_group(number, columns=[column])[column].to_pylist()
        start = self._ends[group - 1] if group else 0
        return partial(bytes_of, self._held[1][i - start])


def bytes_of(cell: Any) -> bytes:
    """The bytes of an image as Hugging Face's tables hold it.

    Raises:
        BadImage: Where there are none: a path could lead anywhere, and is not followed.
    """
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if data is None:
        raise BadImage(
            "no bytes in the row, only a path: embed them before writing, by "
            "dataset.with_format('arrow').map(datasets.table.embed_table_storage, batched=True)"
        )
    if not data:
        raise BadImage("empty file")
    return data
