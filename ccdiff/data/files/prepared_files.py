"""The files of a prepared copy: pixels behind a header, labels, a manifest with their hashes."""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import features

from ccdiff.system.atomic import write_text, write_whole

__all__ = [
    "HEADER_BYTES",
    "file_sha256",
    "header",
    "num_cores",
    "versions",
    "write_labels",
    "write_manifest",
]

HEADER_BYTES = 128
_PART_BYTES = 16 << 20


def header(shape: tuple[int, ...]) -> bytes:
    """Of a ``.npy`` file of uint8 (NumPy's format 1.0), padded to a fixed length."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    magic = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + text.encode().ljust(HEADER_BYTES - 11) + b"\n"


def write_labels(folder: Path, labels: np.ndarray) -> str:
    """Writes ``labels.npy`` whole or not at all; returns the SHA-256 of the file."""
    content = BytesIO()
    np.save(content, labels)
    write_whole(folder / "labels.npy", lambda file: file.write(content.getvalue()))
    return hashlib.sha256(content.getvalue()).hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes ``manifest.json`` whole or not at all."""
    text = json.dumps(manifest, indent=1) + "\n"
    write_text(folder / "manifest.json", text)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file of up to 16 MiB; of larger ones that of the hashes of such parts.

    Parts are hashed on all cores.
    """
    starts = range(0, max(1, path.stat().st_size), _PART_BYTES)
    with ThreadPoolExecutor(num_cores()) as pool:
        parts = list(pool.map(partial(_part_sha256, path), starts))
    return (parts[0] if len(parts) == 1 else hashlib.sha256(b"".join(parts)).digest()).hex()


def _part_sha256(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(_PART_BYTES)).digest()


def versions() -> dict[str, str | None]:
    """Of everything that has a say in a pixel."""
    try:
        own = version("ccdiff")
    except PackageNotFoundError:  # run from its folder, without being installed
        own = None
    codecs = ("libjpeg_turbo", "webp", "libtiff", "zlib")
    found = {"ccdiff": own, "numpy": np.__version__, "pillow": PIL.__version__}
    return {**found, **{name: features.version(name) for name in codecs}}


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
