"""Images in NumPy's files: one ``.npz``, or a folder with ``images.npy`` and ``labels.npy``."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ccdiff.data.files.columns import ColumnSettings, read_columns
from ccdiff.data.files.listing import fingerprint
from ccdiff.data.files.numbers import read_numbers
from ccdiff.data.files.splits import split_of
from ccdiff.errors import UserError

__all__ = ["ArrayImages", "Arrays", "read_arrays"]

_IMAGES = frozenset({"images", "image", "x", "data", "arr_0"})
_LABELS = frozenset({"labels", "label", "y", "targets", "arr_1"})


@dataclass(frozen=True, kw_only=True)
class ArrayImages:
    """Images of an array, by number.

    Arguments:
        path: The file or folder of the array.
        files: Relative to its folder.
        pixels: uint8 [N, H, W], [N, H, W, 1] or [N, H, W, 3].
        names: One per image.
    """

    path: Path
    files: Sequence[str]
    pixels: np.ndarray
    names: Sequence[str]

    def fingerprint(self) -> str:
        """Changes when a file does."""
        return fingerprint(self.path, self.files)

    def reader(self, i: int) -> Callable[[], np.ndarray]:
        """Gives the pixels of image ``i``."""
        return lambda: self.pixels[i]


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Images with their labels, from arrays.

    Arguments:
        images: N of them.
        labels: int64 [N] class indices, uint8 [N, K] attribute bits or float32 [N, K] numbers.
        names: Of the classes, attributes or numbers.
        heldout: Which are held out, bool [N]; none where nothing says so.
    """

    images: ArrayImages
    labels: np.ndarray
    names: tuple[str, ...]
    heldout: np.ndarray | None


def read_arrays(
    path: Path, *, label_names: Sequence[str] | None, numbers: Sequence[str] | None = None
) -> Arrays | None:
    """Reads images and labels, in parts such as ``x_train`` and ``test_labels`` or as a whole.

    Arguments:
        path: A ``.npz`` file, or a folder of ``.npy`` files.
        label_names: What to call the classes or attributes; None takes their numbers.
        numbers: What to call the columns of labels where these are real numbers.

    Returns:
        Nothing where ``path`` is neither.

    Raises:
        UserError: Where no array holds images, or they are of another form.
    """
    found = _open(path)
    if found is None:
        return None
    arrays, folder, files = found
    parts = _parts(arrays, path)
    pixels = [_pixels(images, path) for images, _, _ in parts]
    if len({part.shape[1:] for part in pixels}) > 1:
        raise UserError(f"{path} holds images of several shapes: {[p.shape for p in pixels]}")
    labels = [_labels(one, len(images), path) for images, one, _ in parts]
    if len({one.shape[1:] for one in labels}) > 1:
        raise UserError(f"{path} holds labels of several shapes: {[one.shape for one in labels]}")
    whole = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
    together = np.concatenate(labels)
    if numbers is not None:
        said, names = _numbers(together, path, numbers), tuple(numbers)
    else:
        said, names = _named(together, path, label_names)
    says = {held for _, _, held in parts} == {True, False}
    held = np.concatenate(
        [np.full(len(p), held) for p, (_, _, held) in zip(pixels, parts, strict=True)]
    )
    return Arrays(
        images=ArrayImages(
            path=folder, files=files, pixels=whole, names=[str(i) for i in range(len(whole))]
        ),
        labels=said,
        names=names,
        heldout=held.astype(bool) if says else None,
    )


def _open(path: Path) -> tuple[Mapping[str, Any], Path, list[str]] | None:
    try:
        if path.is_file() and path.suffix.lower() == ".npz":
            return np.load(path, allow_pickle=False), path.parent, [path.name]
        if path.is_dir():
            files = sorted(p.name for p in path.glob("*.npy") if not p.name.startswith("."))
            if any(set(Path(name).stem.lower().split("_")) & _IMAGES for name in files):
                mapped = {
                    Path(name).stem: np.load(path / name, mmap_mode="r", allow_pickle=False)
                    for name in files
                }
                return mapped, path, files
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as arrays of numbers: {error}") from error
    return None


def _parts(arrays: Mapping[str, Any], path: Path) -> list[tuple[Any, Any, bool | None]]:
    """Images, labels and whether they are held out, of each part."""
    images: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    for name in arrays:
        words = name.lower().replace("-", "_").split("_")
        # arr_0 and arr_1 are what numpy calls arrays without a name.
        for known, kind in ((_IMAGES, images), (_LABELS, labels)):
            if name.lower() in known:
                kind[""] = name
            elif len(words) == 2 and set(words) & known:
                kind[(set(words) - known).pop()] = name
    if not images or images.keys() != labels.keys():
        raise UserError(
            f"{path} holds the arrays {', '.join(arrays)}: it takes images and labels, or "
            f"train_images, train_labels and the same of test"
        )
    try:
        return [(arrays[images[k]], arrays[labels[k]], split_of(k)) for k in images]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        # A pickle among them would run code.
        raise UserError(f"{path} cannot be read as arrays of numbers: {error}") from error


def _pixels(images: np.ndarray, path: Path) -> np.ndarray:
    if images.ndim == 4 and images.shape[-1] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.dtype != np.uint8 or not (
        images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))
    ):
        raise UserError(
            f"the images in {path} are {images.dtype} {images.shape}: it takes uint8 from 0 to "
            f"255 of the shape (images, height, width) or (images, height, width, 3)"
        )
    return images


def _labels(labels: np.ndarray, n: int, path: Path) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if len(labels) != n or labels.ndim not in (1, 2):
        raise UserError(f"{path} holds labels {labels.shape} for {n} images")
    return labels


def _named(
    labels: np.ndarray, path: Path, names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class indices or bits, with their names."""
    where = f"the labels in {path}"
    if labels.ndim == 1:
        rows: list[dict[str, Any]] = [{"label": value} for value in labels.tolist()]
        said = read_columns(rows, where, ColumnSettings())
        if len(said.rows) < len(labels):
            raise UserError(f"{where} hold -1, which names no class")
        if names is None:
            return said.labels, said.names
        if not set(said.names) <= set(map(str, range(len(names)))):
            raise UserError(
                f"{where} are {', '.join(said.names[:8])}, but data.label_names names "
                f"{len(names)} classes, 0 to {len(names) - 1}"
            )
        return labels.astype(np.int64), tuple(names)
    if not np.isin(labels, (0, 1)).all():
        raise UserError(
            f"{where} are {labels.shape} and not all 0 or 1; name real numbers by data.numbers"
        )
    if labels.shape[1] > 1 and (labels.sum(1) == 1).all():
        # One-hot, as in a dataset.json.
        return _named(labels.argmax(1), path, names)
    if names is not None and len(names) != labels.shape[1]:
        raise UserError(
            f"{where} are of {labels.shape[1]} attributes, but data.label_names names {len(names)}"
        )
    called = tuple(names) if names is not None else tuple(map(str, range(labels.shape[1])))
    return labels.astype(np.uint8), called


def _numbers(labels: np.ndarray, path: Path, names: Sequence[str]) -> np.ndarray:
    """Real numbers, float32 [N, K], a column for each name."""
    columns = labels[:, None] if labels.ndim == 1 else labels
    if columns.shape[1] != len(names):
        raise UserError(
            f"the labels in {path} are {labels.shape}, but data.numbers names {len(names)} "
            f"columns: name each, in order"
        )
    rows = [dict(zip(names, row, strict=True)) for row in columns.tolist()]
    by_name = {name.strip().lower(): name for name in names}
    return read_numbers(rows, by_name, f"the labels in {path}", names)
