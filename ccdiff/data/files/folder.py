"""Any folder of images, or archive of them: classes and attributes told by names or by tables."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ccdiff.data.files.arrays import read_arrays
from ccdiff.data.files.columns import ColumnSettings, read_columns
from ccdiff.data.files.image_files import FilesInFolder
from ccdiff.data.files.layouts import LayoutSettings, read_layout
from ccdiff.data.files.names import NameSettings, nearly_alike
from ccdiff.data.files.numbers import refuse_other_labels
from ccdiff.data.files.parquet import ParquetImages, find_parquet
from ccdiff.data.files.shards import LmdbTree, TarTree
from ccdiff.data.files.source import Selected, Source
from ccdiff.data.files.tables import TABLE_SUFFIXES
from ccdiff.data.files.trees import FolderTree, Tree, TreeImages, ZipTree
from ccdiff.errors import UserError

__all__ = ["Folder"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder(FilesInFolder):
    """Images in a folder or in an archive, in the first of these layouts that it has.

    - NumPy arrays hold images and labels, see :mod:`ccdiff.data.files.arrays`.
    - Parquet files hold images and labels, as Hugging Face's data sets do.
    - A ``dataset.json`` names classes, as in the sets of StyleGAN, EDM and EDM2.
    - A table lies beside the images or in folders of a split (CSV, TSV, text, JSON (lines) or
      parquet): it names attributes or classes, see :mod:`ccdiff.data.files.columns`.
    - Each class has its folder, directly or inside ``train`` and ``val``, or its own beginning of
      file names, see :mod:`ccdiff.data.files.names`.
    - Images lie there without more: one class.

    Arguments:
        root: The folder or archive: zip, tar shards, an LMDB, arrays.
        label_names: What the labels must turn out to be called; none takes what is found.
        table: The table, relative to ``root``; none takes the only one there.
        images: The folder of the images, relative to ``root``; none looks everywhere.
        file_column: The column of a table that names images, or of parquet files with images.
        class_column: The column of classes; none takes ``label`` or ``class``.
        numbers: Columns of real numbers, which are the labels then, for ``continuous``.
        classes: What tells the classes: ``table``, ``folders``, the ``deepest`` folders, the
            ``prefix`` of file names or ``none``; ``auto`` takes the first layout that is there.
        split_folders: Whether folders called train and test are a split and no classes.

    The others as for :class:`~ccdiff.data.files.image_files.ImageFiles`.
    """

    table: str | None = None
    images: str | None = None
    file_column: str | None = None
    class_column: str | None = None
    numbers: Sequence[str] | None = None
    classes: str = "auto"
    split_folders: bool | None = None

    def __post_init__(self) -> None:
        if not self.root:
            raise UserError("data=folder needs a folder of images: pass data.root=<folder>")
        super().__post_init__()
        NameSettings(classes=self.classes)
        if self.table is not None and self.classes not in ("auto", "table"):
            raise UserError(f"pass data.table or data.classes={self.classes}, not both")
        if self.numbers is not None:
            refuse_other_labels(
                {
                    "class_column": self.class_column,
                    "attributes": self.attributes,
                    "attribute": self.attribute,
                    "classes": None if self.classes in ("auto", "table") else self.classes,
                }
            )

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
        arrays = read_arrays(self.folder, label_names=self.label_names, numbers=self.numbers)
        if arrays is not None:
            return Source.of(
                self._title(),
                arrays.images,
                arrays.labels,
                arrays.names,
                heldout=arrays.heldout,
                fraction=self.heldout,
            )
        tree = self._tree()
        if isinstance(tree, FolderTree):
            column = self.file_column
            images = find_parquet(self.folder, tree.names, image_column=column)
            if images is not None:
                return self._from_parquet(images)
        layout = read_layout(tree, self._layout_settings())
        if layout is None:
            raise UserError(
                f"{self.folder.absolute()} holds no images: it needs a folder per class, or "
                f"images with a table ({', '.join(TABLE_SUFFIXES)}) that names their attributes"
            )
        told = list(layout.told)
        if layout.labels.ndim == 1 and len(layout.names) == 1 and self.classes == "auto":
            told.append(
                f"all images are of one class, {layout.names[0]}; where there are more, put each "
                f"in its folder, or see data.classes, data.table and data.images"
            )
        for one in (*told, *nearly_alike(layout.names)):
            log.warning("%s", one)
        return Source.of(
            self._title(),
            TreeImages(tree, layout.files),
            layout.labels,
            layout.names,
            heldout=layout.heldout,
            fraction=self.heldout,
        )

    def _tree(self) -> Tree:
        if self.folder.is_dir():
            if (self.folder / "data.mdb").is_file():
                return LmdbTree(self.folder)
            shards = [path.name for path in self.folder.glob("[!.]*.tar") if path.is_file()]
            tree = FolderTree(self.folder)
            if not shards:
                return tree
            if tree.image_names:
                raise UserError(
                    f"{self.folder} holds {', '.join(sorted(shards)[:2])} and beside it "
                    f"{len(tree.image_names)} images, such as {tree.image_names[0]}, which may "
                    f"each be the data set: pass data.root={self.folder / sorted(shards)[0]}, or "
                    f"move one of the two elsewhere"
                )
            return TarTree(self.folder, shards)
        if self.folder.is_file() and self.folder.suffix.lower() == ".zip":
            return ZipTree(self.folder)
        if self.folder.is_file() and self.folder.suffix.lower() == ".tar":
            return TarTree(self.folder.parent, [self.folder.name])
        raise UserError(
            f"data.root={self.root} is not a folder, nor a file .zip, .tar or .npz "
            f"({self.folder.absolute()})"
        )

    def _title(self) -> str:
        return self.folder.resolve().name

    def _layout_settings(self) -> LayoutSettings:
        return LayoutSettings(
            table=self.table,
            images=self.images,
            file_column=self.file_column,
            columns=self._columns(),
            names=NameSettings(classes=self.classes, split_folders=self.split_folders),
        )

    def _columns(self) -> ColumnSettings:
        needed: Sequence[str] | None = self.attributes
        if self.attribute is not None:
            needed = [self.attribute]
        return ColumnSettings(numbers=self.numbers, needed=needed, class_column=self.class_column)

    def _from_parquet(self, images: ParquetImages) -> Source:
        where = f"the parquet files in {images.root}"
        held = images.heldout if images.heldout.any() else None
        said = read_columns(images.rows(), where, self._columns(), heldout=held)
        for one in (*said.told, *nearly_alike(said.names)):
            log.warning("%s", one)
        kept = Selected(images=images, index=said.rows)
        return Source.of(
            self._title(),
            images if len(said.rows) == len(images.names) else kept,
            said.labels,
            said.names,
            # Nothing is held out where all that was has no labels.
            heldout=said.heldout if said.heldout is not None and said.heldout.any() else None,
            fraction=self.heldout,
        )
