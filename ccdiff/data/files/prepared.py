"""Images prepared once: decoded, resized, and kept as one file of uint8 pixels.

A prepared copy is a folder with ``images.npy`` [N, C, H, W], training images first, ``labels.npy``
and ``manifest.json``. Its name ends in a hash of the source's listing and of every setting that
matters to a pixel, so other settings make another copy. Labels are no part of that hash: where
they have changed, they alone are written anew.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ccdiff.data.files.decode import PixelSettings
from ccdiff.data.files.journal import Bad
from ccdiff.data.files.preparation import build
from ccdiff.data.files.prepared_files import (
    HEADER_BYTES,
    file_sha256,
    write_labels,
    write_manifest,
)
from ccdiff.data.files.source import Source
from ccdiff.distributed.ranks import local_rank
from ccdiff.errors import UserError
from ccdiff.system.locks import locked

__all__ = ["Prepared", "prepare"]

log = logging.getLogger(__name__)

_FORMAT = 2
# Copies that this process has checked already, with their state then.
_checked: set[tuple[str, int, int]] = set()


@dataclass(frozen=True)
class Prepared:
    """A complete prepared copy.

    Arguments:
        path: Its folder.
        manifest: Content of its ``manifest.json``.
        kept: Which images of the source it holds, in its order, int64 [rows].
    """

    path: Path
    manifest: dict[str, Any]
    kept: np.ndarray

    @property
    def images_path(self) -> Path:
        """All pixels."""
        return self.path / "images.npy"

    @property
    def num_train(self) -> int:
        """How many of the images, the first, are for training."""
        return self.manifest["images"]["train"]

    @property
    def bad(self) -> list[Bad]:
        """The images that could not be used, in the order of preparation."""
        return [Bad(**bad) for bad in self.manifest["bad"]]

    def verify(self) -> None:
        """Reads every byte.

        Raises:
            UserError: Where images or labels are not those that were written.
        """
        for name in ("images", "labels"):
            if file_sha256(self.path / f"{name}.npy") != self.manifest[name]["sha256"]:
                raise _damaged(self.path)


def prepare(source: Source, *, settings: PixelSettings, cache: Path) -> Prepared:
    """Finds the prepared copy of ``source`` in the folder ``cache``, or makes it.

    Raises:
        UserError: Where ``cache`` cannot hold it or the copy in it is damaged.
    """
    order = np.argsort(source.heldout, kind="stable")
    identity = {
        "format": _FORMAT,
        "listing": source.images.fingerprint(),
        "order": hashlib.sha256(order.astype("<i8").tobytes()).hexdigest(),
        "settings": asdict(settings),
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    title = re.sub("[^A-Za-z0-9_-]+", "_", source.title)
    path = cache / f"{title}-{settings.title}-{key}"
    if not path.exists():
        with _alone(cache):
            if not path.exists():
                build(source, order=order, settings=settings, identity=identity, path=path)
                _checked.add(_state(path))  # Its hash is that of what was read back.
    manifest = _read_manifest(path, settings)
    _check(path, manifest)
    unused = {bad["index"] for bad in manifest["bad"]} | set(manifest["twins"])
    kept = np.array([i for i in order.tolist() if i not in unused], dtype=np.int64)
    return Prepared(path, _agreeing(path, manifest, source.labels[kept], source.label_names), kept)


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Lets one process at a time prepare; a killed process leaves no lock behind."""

    def wait(holder: str) -> None:
        log.info("waiting for another process that prepares images in %s (%s)", cache, holder)

    try:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / ".lock").touch()
    except OSError as error:
        raise UserError(
            f"cannot keep prepared images in {cache.absolute()}: {error.strerror}; pass another "
            f"folder by data.cache=<folder>"
        ) from error
    with locked(cache / ".lock", busy=wait):
        yield


def _check(path: Path, manifest: dict[str, Any]) -> None:
    """Reads every pixel once in this process, so that none is trained on that was not written.

    Where several processes of a machine train together, the first of them does so for all.
    """
    state = _state(path)
    if state in _checked or local_rank() != 0:
        return
    if file_sha256(path / "images.npy") != manifest["images"]["sha256"]:
        raise _damaged(path)
    _checked.add(state)


def _state(path: Path) -> tuple[str, int, int]:
    """What tells whether the images of a copy may have changed since they were read."""
    status = (path / "images.npy").stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def _damaged(path: Path) -> UserError:
    return UserError(
        f"the prepared images in {path} are damaged: delete that folder and run the command again"
    )


def _read_manifest(path: Path, settings: PixelSettings) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        expected = HEADER_BYTES + manifest["images"]["rows"] * settings.row_bytes
        if os.path.getsize(path / "images.npy") == expected and "twins" in manifest:
            return manifest
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise _damaged(path)


def _agreeing(
    path: Path, manifest: dict[str, Any], labels: np.ndarray, names: tuple[str, ...]
) -> dict[str, Any]:
    """The manifest with labels as the source has them now; files are brought up to date."""
    digest = hashlib.sha256(labels.tobytes()).hexdigest()
    known = manifest["labels"]
    if known is not None and (known["names"], known["values_sha256"]) == (list(names), digest):
        return manifest
    try:
        with _alone(path.parent):
            written = write_labels(path, labels)
            known = {"names": list(names), "values_sha256": digest, "sha256": written}
            manifest = {**manifest, "labels": known}
            write_manifest(path, manifest)
    except (OSError, UserError) as error:
        # Nothing is lost: those of the source count.
        log.warning("labels in %s are out of date and cannot be written: %s", path, error)
    return manifest
