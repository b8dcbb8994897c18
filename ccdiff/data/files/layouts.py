"""What the images of a tree show, in whichever layout it is; the first that is there counts.

1. ``dataset.json``, as StyleGAN, EDM and EDM2 write it.
2. Tables beside the images or in folders of a split, see :mod:`ccdiff.data.files.tables`.
3. Labels beside each image in tar shards, as webdataset writes them.
4. Names of files and folders, see :mod:`ccdiff.data.files.names`; where these tell of one class
   alone, a list of images and classes without a header.
"""

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ccdiff.data.files.cells import refuse_repeated, resolve, vectors
from ccdiff.data.files.columns import ColumnSettings, Labelled, read_columns
from ccdiff.data.files.names import NameSettings, classes_by_name
from ccdiff.data.files.splits import split_of
from ccdiff.data.files.table_choice import find_lists, find_tables
from ccdiff.data.files.tables import Table
from ccdiff.data.files.trees import Tree
from ccdiff.errors import UserError
from ccdiff.system.text import natural_key

__all__ = ["Layout", "LayoutSettings", "read_layout"]

_DATASET_JSON = "dataset.json"
_MAX_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class LayoutSettings:
    """How a tree is read.

    Arguments:
        table: The table, relative to the tree; None takes the only one there.
        images: The folder of the images, relative to the tree; None looks everywhere.
        file_column: The column of a table that names the images; None takes one with a usual name.
        columns: Which other columns count.
        names: How names of files and folders are read.
    """

    table: str | None = None
    images: str | None = None
    file_column: str | None = None
    columns: ColumnSettings = field(default_factory=ColumnSettings)
    names: NameSettings = field(default_factory=NameSettings)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the images of a tree show.

    Arguments:
        files: The images, relative to the tree, in natural order.
        labels: int64 [N] class indices or uint8 [N, K] attribute bits.
        names: Of the classes or attributes.
        heldout: Which images are held out, bool [N]; none where nothing says so.
        told: What a user should know of the reading.
    """

    files: list[str]
    labels: np.ndarray
    names: tuple[str, ...]
    heldout: np.ndarray | None
    told: list[str]


def read_layout(tree: Tree, settings: LayoutSettings) -> Layout | None:
    """Finds out what the images of a tree show; None where there are none.

    Raises:
        UserError: Where they can be read in two ways, or are in none of the known layouts.
    """
    images = tree.image_names
    if settings.images is not None:
        under = settings.images.strip("/") + "/"
        images = [name for name in images if name.startswith(under)]
        if not images:
            raise UserError(f"data.images={settings.images}: no images lie there in {tree.path}")
    used: list[str] = []
    layout = None
    numbers = settings.columns.numbers is not None
    by_table = settings.table is not None or settings.names.classes == "table" or numbers
    if settings.names.classes in ("auto", "table"):
        if not by_table and (found := _dataset_json(tree)) is not None:
            used.append(found)
            layout = _from_dataset_json(tree, found, images)
        else:
            tables = find_tables(tree, table=settings.table, file_column=settings.file_column)
            used += [name for table in tables for name in (table.name, *table.joined)]
            layout = _from_tables(tree, tables, images, settings) if tables else None
        if layout is None and (numbers or not by_table):
            layout = _from_sidecars(tree, images, settings, used)
        if layout is None and by_table:
            wanted = f", so that data.numbers={settings.columns.numbers} names nothing"
            raise UserError(
                f"{tree.path} holds no table{wanted if numbers else ''}: see data.table and "
                f"data.classes"
            )
    if layout is None and images:
        layout = _from_names(tree, images, settings)
        if settings.names.classes == "auto" and len(layout.names) == 1:
            # Lists are common beside folders of classes, which say more.
            lists = find_lists(tree, images)
            used += [table.name for table in lists]
            layout = _from_tables(tree, lists, images, settings) if lists else layout
    if layout is not None and (rest := tree.passed_over(used)):
        listed = ", ".join(f"{n} {ending}" for ending, n in sorted(rest.items())[:_MAX_SHOWN])
        layout.told.append(f"{rest.total()} files that are no images are passed over: {listed}")
    return layout


def _from_names(tree: Tree, images: list[str], settings: LayoutSettings) -> Layout:
    found = classes_by_name(images, where=str(tree.path), settings=settings.names)
    names = tuple(sorted(set(found.labels), key=natural_key))
    index = {name: i for i, name in enumerate(names)}
    return Layout(
        files=found.files,
        labels=np.array([index[label] for label in found.labels], dtype=np.int64),
        names=names,
        heldout=None if found.heldout is None else np.array(found.heldout),
        told=found.told,
    )


def _dataset_json(tree: Tree) -> str | None:
    found = [name for name in tree.names if PurePosixPath(name).name == _DATASET_JSON]
    return min(found, key=lambda name: name.count("/")) if found else None


def _from_dataset_json(tree: Tree, name: str, images: list[str]) -> Layout | None:
    """Reads StyleGAN's labels: a class index, or numbers that are 0 and 1, for each image."""
    where = f"{tree.path / name}"
    try:
        entries = json.loads(tree.text(name))["labels"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise UserError(f"{where} is no JSON with labels, as StyleGAN writes it") from error
    if entries is None:
        raise UserError(
            f"{where} has no labels: pass data.classes=none to make all images one class"
        )
    pairs = list(entries.items()) if isinstance(entries, dict) else entries
    folder = posixpath.dirname(name)
    try:
        files = [posixpath.normpath(posixpath.join(folder, str(file))) for file, _ in pairs]
        values = [value for _, value in pairs]
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: its labels are no pairs of a file and a label") from error
    if files and all(file.endswith(".npy") for file in files):
        raise UserError(
            f"{where} names arrays ({files[0]}), the latents that EDM2 trains on, and no images: "
            f"use the set that they were made from"
        )
    refuse_repeated(where, files, files)
    told = _unlisted(where, files, images)
    labels, names = vectors(where, values)
    order = sorted(range(len(files)), key=lambda i: natural_key(files[i]))
    return Layout(
        files=[files[i] for i in order], labels=labels[order], names=names, heldout=None, told=told
    )


def _from_tables(
    tree: Tree, tables: Sequence[Table], images: list[str], settings: LayoutSettings
) -> Layout:
    where = str(tree.path / tables[0].name)
    if len(tables) > 1:
        where = f"the tables {', '.join(table.name for table in tables)} in {tree.path}"
    told: list[str] = []
    files: list[str] = []
    rows: list[Mapping[str, Any]] = []
    held: list[bool | None] = []
    # One that names images and says nothing of them may be the first.
    for table in sorted(tables, key=lambda table: not table.columns):
        told += table.told
        if rows and set(table.columns) != set(rows[0]):
            if set(table.columns) < set(rows[0]):
                told.append(f"{table.name} has no labels and is not used")
                continue
            raise UserError(
                f"{tree.path / table.name} has other columns than {tables[0].name}: "
                f"{', '.join(table.columns)} and {', '.join(rows[0])}"
            )
        own = resolve(tree, table, images, folder=settings.images)
        refuse_repeated(str(tree.path / table.name), table.files, own)
        files += own
        rows += table.rows
        held += [table.heldout] * len(own)
    refuse_repeated(where, files, files)
    if not rows[0]:
        raise UserError(
            f"{where} names images but no attribute of them: add a column for each, or, where "
            f"folders tell the classes, pass data.classes=folders"
        )
    said = read_columns(rows, where, settings.columns)
    if said.heldout is None:
        said = _split_by_place(said, files, held)
    told += said.told + _unlisted(where, files, images)
    return _in_order(said, files, told)


def _split_by_place(said: Labelled, files: Sequence[str], held: Sequence[bool | None]) -> Labelled:
    """The split that the place of the tables, or else of the images, tells of."""
    flags = [held[i] for i in said.rows.tolist()]
    if len(set(flags)) < 2:
        flags = [split_of(files[i].split("/")[0]) if "/" in files[i] else None for i in said.rows]
    if set(flags) != {True, False}:
        return said
    return Labelled(
        labels=said.labels,
        names=said.names,
        heldout=np.array(flags, dtype=bool),
        rows=said.rows,
        told=said.told,
    )


def _in_order(said: Labelled, files: Sequence[str], told: list[str]) -> Layout:
    """Labelled rows in the natural order of their files."""
    kept = [files[i] for i in said.rows.tolist()]
    order = sorted(range(len(kept)), key=lambda i: natural_key(kept[i]))
    return Layout(
        files=[kept[i] for i in order],
        labels=said.labels[order],
        names=said.names,
        heldout=None if said.heldout is None else said.heldout[order],
        told=told,
    )


def _unlisted(where: str, files: Sequence[str], images: Sequence[str]) -> list[str]:
    if n := len(set(images) - set(files)):
        return [f"{n} images in the folder are not in {where} and not used"]
    return []


def _from_sidecars(
    tree: Tree, images: Sequence[str], settings: LayoutSettings, used: list[str]
) -> Layout | None:
    """Labels that lie beside each image under the same name, in ``.cls`` or ``.json``."""
    if not tree.has_sidecars:
        return None
    there = set(tree.names)
    for ending in (".cls", ".json"):
        beside = [tree.key(name) + ending for name in images]
        n = sum(name in there for name in beside)
        if not n:
            continue
        if n < len(images):
            lacking = next(i for i, name in zip(images, beside, strict=True) if name not in there)
            raise UserError(f"{lacking} in {tree.path} has no {ending} beside it, as others have")
        rows = [_sidecar(tree, name) for name in beside]
        where = f"the {ending} files in {tree.path}"
        used += beside
        if any(row.keys() != rows[0].keys() for row in rows):
            raise UserError(f"{where} do not all have the same keys")
        said = read_columns(rows, where, settings.columns)
        flags = [tree.part(name) for name in images]
        if said.heldout is None:
            said = _split_by_place(said, images, flags)
        return _in_order(said, list(images), said.told)
    return None


def _sidecar(tree: Tree, name: str) -> dict[str, Any]:
    text = tree.text(name)
    if name.endswith(".cls"):
        return {"label": text.strip()}
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} in {tree.path} is not JSON: {error}") from error
    return row if isinstance(row, dict) else {"label": row}
