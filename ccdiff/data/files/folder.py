"""Any folder of images: one folder per class, or tables that say what each image shows."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ccdiff.data.files.class_folders import from_class_folders
from ccdiff.data.files.image_files import ImageFiles
from ccdiff.data.files.listing import inside, list_images, natural_key
from ccdiff.data.files.parquet import ParquetImages, find_parquet
from ccdiff.data.files.source import FileImages, Source, every_nth
from ccdiff.data.files.tables import TABLE_SUFFIXES, read_rows, read_table
from ccdiff.errors import UserError

__all__ = ["Folder"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder(ImageFiles):
    """A folder of images, in the first of four layouts that it has.

    - Parquet files hold images and labels, as Hugging Face's data sets do.
    - A table lies beside the images (CSV, TSV, JSON lines or parquet): it names attributes or
      classes, see :mod:`ccdiff.data.files.tables`.
    - Each class has its folder, directly or inside ``train`` and ``val``.
    - Images lie there without more: one class.

    Arguments:
        root: The folder.
        label_names: What the labels must turn out to be called; none takes what is found.
        table: The table, relative to ``root``; none takes the only one there.

    The others as for :class:`~ccdiff.data.files.image_files.ImageFiles`.
    """

    table: str | None = None

    def __post_init__(self) -> None:
        if self.root is None:
            raise UserError("data=folder needs a folder of images: pass data.root=<folder>")
        super().__post_init__()

    @property
    def names(self) -> tuple[str, ...]:
        found = super().names
        if self.label_names is not None and tuple(self.label_names) != found:
            raise UserError(
                f"data.label_names says {', '.join(self.label_names)}, but {self.folder} has "
                f"{', '.join(found)}"
            )
        return found

    def find(self) -> Source:
        if not self.folder.is_dir():
            raise UserError(f"data.root={self.root} is not a folder ({self.folder.absolute()})")
        source: Source | None
        if (images := find_parquet(self.folder)) is not None:
            source = self._from_parquet(images)
        elif (table := self._find_table()) is not None:
            source = self._from_table(table)
        else:
            source = from_class_folders(self.folder, heldout=self.heldout)
        if source is None:
            raise UserError(
                f"{self.folder.absolute()} holds no images: it needs a folder per class, or "
                f"images with a table ({', '.join(TABLE_SUFFIXES)}) that names their attributes"
            )
        return source

    def _find_table(self) -> Path | None:
        if self.table is not None:
            path = self.folder / self.table
            if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
                return inside(self.folder, path)
            raise UserError(
                f"data.table={self.table} is not a file in {self.folder.absolute()} that ends in "
                f"{', '.join(TABLE_SUFFIXES)}"
            )
        found = [
            inside(self.folder, path)
            for path in sorted(self.folder.iterdir())
            if path.suffix.lower() in TABLE_SUFFIXES and not path.name.startswith(".")
        ]
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UserError(
                f"{self.folder} holds several tables: pass data.table=<one of {names}>"
            )
        return found[0] if found else None

    def _needed(self) -> Sequence[str] | None:
        return self.attributes if self.attribute is None else [self.attribute]

    def _from_parquet(self, images: ParquetImages) -> Source:
        labels, names, heldout = read_rows(
            images.rows(), f"the parquet files in {images.root}", needed=self._needed()
        )
        if images.heldout.any():
            heldout = images.heldout
        n = len(images.names)
        return Source(
            title=self.folder.resolve().name,
            images=images,
            labels=labels,
            label_names=names,
            heldout=every_nth(n, self.heldout) if heldout is None else heldout,
        )

    def _from_table(self, path: Path) -> Source:
        table = read_table(path, needed=self._needed())
        prefix = path.parent.relative_to(self.folder)
        files = [(prefix / name).as_posix() for name in table.files]
        order = sorted(range(len(files)), key=lambda i: natural_key(files[i]))
        files = [files[i] for i in order]
        if unlisted := len(set(list_images(self.folder)) - set(files)):
            log.warning("%d images in %s are not in %s and not used", unlisted, self.folder, path)
        heldout = table.heldout
        return Source(
            title=self.folder.resolve().name,
            images=FileImages(self.folder, files),
            labels=table.labels[order],
            label_names=table.label_names,
            heldout=every_nth(len(files), self.heldout) if heldout is None else heldout[order],
        )
