"""Images in parquet files, as Hugging Face's data sets store them."""

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from ccdiff.data.files.class_folders import HELD_OUT
from ccdiff.data.files.decode import BadImage
from ccdiff.data.files.listing import fingerprint, inside, natural_key
from ccdiff.errors import UserError

__all__ = ["ParquetImages", "find_parquet", "open_parquet"]

_IMAGE_COLUMNS = ("image", "img")


def open_parquet(path: Path) -> Any:
    """A ``pyarrow.parquet.ParquetFile``.

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
        return ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as parquet: {error}") from error


def _image_column(file: Any) -> str | None:
    """The column that holds encoded images, as bytes or as a struct with ``bytes``; or none."""
    from pyarrow import types

    for name in _IMAGE_COLUMNS:
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
    names = json.loads(metadata)["info"]["features"].get(column, {}).get("names")
    return None if names is None else tuple(names)


def find_parquet(place: Path) -> "ParquetImages | None":
    """The images in the parquet files of a folder or its folder ``data``, if there are any."""
    for folder in (place, place / "data"):
        files = [path.name for path in folder.glob("*.parquet") if not path.name.startswith(".")]
        paths = [inside(place, path) for path in (folder / name for name in files)]
        if paths and all(_image_column(open_parquet(path)) for path in paths):
            return ParquetImages(folder, sorted(files, key=natural_key))
    return None


class ParquetImages:
    """The images of some parquet files, one row group in memory at a time.

    Arguments:
        root: Folder of the files.
        files: Their names relative to it; those called ``validation``, ``test`` and the like hold
            what is held out.
    """

    def __init__(self, root: Path, files: Sequence[str]) -> None:
        self.root = root
        self.files = tuple(files)
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
            heldout += [re.split("[^a-z]", name.lower())[0] in HELD_OUT] * metadata.num_rows
        if not names:
            raise UserError(f"the parquet files in {root} have no rows")
        self.names: Sequence[str] = names
        self.heldout = np.array(heldout)
        self._ends = list(accumulate(counts))
        self._held: tuple[int, list[Any]] = (-1, [])

    def rows(self) -> list[dict[str, Any]]:
        """All but the images; classes are named where the files give the names.

        Raises:
            UserError: Where a class has no name.
        """
        rows: list[dict[str, Any]] = []
        for name in self.files:
            file = open_parquet(self.root / name)
            columns = [c for c in file.schema_arrow.names if c != _image_column(file)]
            table = file.read(columns=columns).to_pylist()
            for column in columns:
                names = _class_names(file, column) or ()
                for i, row in enumerate(table if names else ()):
                    if row[column] not in range(len(names)):
                        raise UserError(
                            f"row {i} of {self.root / name} has the {column} {row[column]}, which "
                            f"is none of the {len(names)} classes that the file names"
                        )
                    row[column] = names[row[column]]
            rows += table
        return rows

    def fingerprint(self) -> str:
        """Changes when any file does."""
        return fingerprint(self.root, self.files)

    def reader(self, i: int) -> Callable[[], bytes]:
        """What gives the bytes of image ``i``; cheap for ascending ``i``."""
        group = bisect_right(self._ends, i)
        if self._held[0] != group:
            name, number = self._groups[group]
            file = open_parquet(self.root / name)
            column = _image_column(file)
            self._held = group, file.read_row_group(number, columns=[column])[column].to_pylist()
        start = self._ends[group - 1] if group else 0
        return partial(_bytes_of, self._held[1][i - start])


def _bytes_of(cell: Any) -> bytes:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if data is None:
        # A path instead of bytes could lead anywhere.
        raise BadImage("no bytes in the row")
    if not data:
        raise BadImage("empty file")
    return data
