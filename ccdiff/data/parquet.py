"""Images in parquet files, as Hugging Face's data sets store them."""

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from ccdiff.data.decode import BadImage
from ccdiff.data.listing import fingerprint
from ccdiff.errors import UserError

__all__ = ["ParquetImages", "class_names", "image_column", "open_parquet"]

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


def image_column(file: Any) -> str | None:
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


def class_names(file: Any, column: str) -> tuple[str, ...] | None:
    """The names of a class column, where the file's Hugging Face metadata give them."""
    metadata = (file.schema_arrow.metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    names = json.loads(metadata)["info"]["features"].get(column, {}).get("names")
    return None if names is None else tuple(names)


class ParquetImages:
    """The images of some parquet files, one row group in memory at a time.

    Arguments:
        root: Folder of the files.
        files: Their names relative to it.
    """

    def __init__(self, root: Path, files: Sequence[str]) -> None:
        self.root = root
        self.files = tuple(files)
        self._groups: list[tuple[str, int]] = []
        counts = []
        names: list[str] = []
        for name in self.files:
            opened = open_parquet(root / name)
            if image_column(opened) is None:
                raise UserError(
                    f"{root / name} has no column of images called {_IMAGE_COLUMNS[0]}"
                )
            for group in range(opened.num_row_groups):
                self._groups.append((name, group))
                counts.append(opened.metadata.row_group(group).num_rows)
            names += [f"{name}[{row}]" for row in range(opened.metadata.num_rows)]
        self.names: Sequence[str] = names
        self._ends = list(accumulate(counts))
        self._held: tuple[int, list[Any]] = (-1, [])

    def fingerprint(self) -> str:
        """Changes when any file does."""
        return fingerprint(self.root, self.files)

    def reader(self, i: int) -> Callable[[], bytes]:
        """What gives the bytes of image ``i``; cheap for ascending ``i``."""
        group = bisect_right(self._ends, i)
        if self._held[0] != group:
            name, number = self._groups[group]
            file = open_parquet(self.root / name)
            column = image_column(file)
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
