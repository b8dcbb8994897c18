"""Data sets of the Hugging Face hub by name, kept by its library and so offline later."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ccdiff.data.files.columns import ColumnSettings, read_columns
from ccdiff.data.files.decode import BadImage, read_file
from ccdiff.data.files.image_files import ImageFiles
from ccdiff.data.files.names import nearly_alike
from ccdiff.data.files.numbers import refuse_other_labels
from ccdiff.data.files.parquet import bytes_of
from ccdiff.data.files.source import Images, Selected, Source
from ccdiff.data.files.splits import split_of
from ccdiff.errors import UserError
from ccdiff.system.network import answers

__all__ = ["Hub"]

log = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds for the hub to answer; its library would try for half a minute."""


@dataclass(frozen=True, kw_only=True)
class _HubImages:
    """The images of some splits, by number.

    Arguments:
        splits: Data sets of the library, their images as they are stored.
        column: The column of images.
        names: One per image.
        folders: Where files that rows name by path may lie.
    """

    splits: Sequence[Any]
    column: str
    names: Sequence[str]
    folders: Sequence[Path]

    def fingerprint(self) -> str:
        """Changes with the files that the library keeps, and with the set's version."""
        digest = hashlib.sha256()
        for split in self.splits:
            files = ["/".join(Path(one["filename"]).parts[-3:]) for one in split.cache_files]
            digest.update(repr((split.num_rows, files, str(split.info.version))).encode())
        return digest.hexdigest()

    def reader(self, i: int) -> Callable[[], bytes]:
        """Gives the encoded image ``i``."""
        for split in self.splits:
            if i < split.num_rows:
                return partial(self._bytes, split[i][self.column])
            i -= split.num_rows
        raise IndexError(i)

    def _bytes(self, cell: Any) -> bytes:
        path = cell.get("path") if isinstance(cell, dict) and cell.get("bytes") is None else None
        if path is None:
            return bytes_of(cell)
        for folder in self.folders:
            # A path in a stranger's table could lead anywhere.
            if Path(path).resolve().is_relative_to(folder):
                return read_file(folder, str(Path(path).resolve().relative_to(folder)))
        raise BadImage("names a file outside of the data set")


@dataclass(frozen=True, kw_only=True, eq=False)
class Hub(ImageFiles):
    """A data set of the Hugging Face hub, or a local folder that its library reads.

    Arguments:
        name: Such as ``user/set``.
        config: Which configuration of the set, where it has several.
        split: The split to train on.
        heldout_split: The split that is held out; None takes one called validation or test with
            labels, and draws from the other where there is none.
        file_column: The column of images; None takes the only one.
        class_column: The column of classes; None takes ``label`` or ``class``.
        numbers: Columns of real numbers, which are the labels then, for ``continuous``.

    The others as for :class:`~ccdiff.data.files.image_files.ImageFiles`.
    """

    name: str | None = None
    config: str | None = None
    split: str = "train"
    heldout_split: str | None = None
    file_column: str | None = None
    class_column: str | None = None
    numbers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is None:
            raise UserError("data=hub needs the name of a set: pass data.name=<user>/<set>")
        if self.numbers is not None:
            refuse_other_labels(
                {
                    "class_column": self.class_column,
                    "attributes": self.attributes,
                    "attribute": self.attribute,
                }
            )

    def find(self) -> Source:
        known = self._load()
        if self.split not in known:
            raise UserError(f"data.split={self.split}: {self.name} has {', '.join(known)}")
        parts = [self.split]
        if self.heldout_split is not None:
            if self.heldout_split not in known or self.heldout_split == self.split:
                raise UserError(
                    f"data.heldout_split={self.heldout_split} must be another split than "
                    f"data.split={self.split}: {self.name} has {', '.join(known)}"
                )
            parts.append(self.heldout_split)
        else:
            other = [name for name in known if split_of(name) and name != self.split]
            parts += sorted(other, reverse=True)[:1]  # validation rather than test
        while True:
            source = self._source([known[part] for part in parts], parts)
            if source is not None:
                return source
            # What has no labels, as many a test split, cannot be held out.
            parts = parts[:1]

    def _load(self) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise UserError(
                "data=hub is read by the package datasets: pip install 'ccdiff[hub]'"
            ) from error
        with _offline_unless_it_answers(str(self.name)) as answered:
            try:
                return datasets.load_dataset(self.name, self.config)
            # The library and those under it have many errors of their own.
            except Exception as error:
                if not answered:
                    raise UserError(
                        f"the Hugging Face hub does not answer, and nothing of {self.name} was "
                        f"kept here: try again with a network, or pass a folder as data.name "
                        f"({error})"
                    ) from error
                raise UserError(
                    f"{self.name} cannot be loaded from the Hugging Face hub or from what was "
                    f"kept of it: {error}"
                ) from error

    def _source(self, splits: Sequence[Any], parts: Sequence[str]) -> Source | None:
        import datasets

        column = self._image_column(splits[0].features, datasets.Image)
        kept = [split.cast_column(column, datasets.Image(decode=False)) for split in splits]
        rows: list[dict[str, Any]] = []
        held: list[bool] = []
        for split, part in zip(kept, parts, strict=True):
            rest = split.remove_columns(column)
            table = rest.to_list() if rest.column_names else [{}] * split.num_rows
            rows += [_named(row, split.features) for row in table]
            held += [part != parts[0]] * split.num_rows
        columns = ColumnSettings(
            numbers=self.numbers,
            needed=self.attributes if self.attribute is None else [self.attribute],
            class_column=self.class_column,
        )
        flags = np.array(held) if len(parts) > 1 else None
        where = f"{self.name} ({' and '.join(parts)})"
        said = read_columns(rows, where, columns, heldout=flags)
        if flags is not None and not flags[said.rows].any():
            return None
        for one in (*said.told, *nearly_alike(said.names)):
            log.warning("%s", one)
        names = [
            f"{part}[{i}]"
            for split, part in zip(kept, parts, strict=True)
            for i in range(split.num_rows)
        ]
        folders = [Path(str(self.name)).resolve()] if Path(str(self.name)).is_dir() else []
        folders += [Path(datasets.config.HF_CACHE_HOME).resolve()]
        images: Images = _HubImages(splits=kept, column=column, names=names, folders=folders)
        if len(said.rows) < len(names):
            images = Selected(images=images, index=said.rows)
        return Source.of(
            str(self.name).strip("/").replace("/", "-"),
            images,
            said.labels,
            said.names,
            heldout=said.heldout,
            fraction=self.heldout,
        )

    def _image_column(self, features: Any, kind: type) -> str:
        found = [name for name, feature in features.items() if isinstance(feature, kind)]
        if self.file_column is not None:
            if self.file_column not in found:
                raise UserError(
                    f"data.file_column={self.file_column} holds no images: {self.name} has "
                    f"images in {', '.join(found) or 'no column'}"
                )
            return self.file_column
        if len(found) != 1:
            raise UserError(
                f"{self.name} has images in {', '.join(found) or 'no column'}: pass "
                f"data.file_column=<the one to learn>"
            )
        return found[0]


@contextmanager
def _offline_unless_it_answers(name: str) -> Iterator[bool]:
    """Within, the library takes what it has kept where the hub does not answer soon.

    Gives whether the hub answers; a folder of this machine, and who works offline, needs none.
    """
    import datasets
    from huggingface_hub import constants

    settings = (datasets.config, constants)
    before = [module.HF_HUB_OFFLINE for module in settings]
    local = Path(name).exists() or name.startswith(("/", ".", "~"))
    needed = not (local or any(before))
    answered = not needed or answers(constants.ENDPOINT, seconds=_PATIENCE)
    if not answered:
        log.warning("the Hugging Face hub does not answer: looking for what was kept of %s", name)
    try:
        if not answered:
            datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
        yield answered
    finally:
        for module, was in zip(settings, before, strict=True):
            module.HF_HUB_OFFLINE = was


def _named(row: dict[str, Any], features: Any) -> dict[str, Any]:
    """A row with the names of its classes; -1 stays, and says that there is none."""
    named = dict(row)
    for column, value in row.items():
        feature = features[column]
        names = getattr(feature, "names", None) or getattr(
            getattr(feature, "feature", None), "names", None
        )
        if not names:
            continue
        if isinstance(value, list):
            named[column] = [names[one] for one in value]
        elif value is not None and value >= 0:
            named[column] = names[value]
    return named
