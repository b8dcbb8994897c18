"""CIFAR-10 in its own layout, from images as JPEG, which travel in an eighth of the bytes."""

import io
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["noise", "write_batches"]


def write_batches(npz: Path, root: Path) -> None:
    """Writes CIFAR-10's own layout, ``cifar-10-batches-py``, from images as JPEG.

    Arguments:
        npz: With ``jpeg`` (joined bytes, uint8), ``offsets`` [N + 1], ``labels`` [N] and
            ``n_train``; training images first.
        root: Folder that the layout goes into.
    """
    with np.load(npz) as file:
        jpeg, offsets, labels = file["jpeg"], file["offsets"], file["labels"]
        trained = int(file["n_train"])
    rows = np.empty((len(labels), 3 * 32 * 32), np.uint8)
    for i, (start, end) in enumerate(pairwise(offsets)):
        with Image.open(io.BytesIO(jpeg[start:end].tobytes())) as image:
            rows[i] = np.asarray(image.convert("RGB")).transpose(2, 0, 1).reshape(-1)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    parts = [np.arange(trained)[j * trained // 5 : (j + 1) * trained // 5] for j in range(5)]
    named = {f"data_batch_{j + 1}": part for j, part in enumerate(parts)}
    for name, part in {**named, "test_batch": np.arange(trained, len(labels))}.items():
        content = {"data": rows[part], "labels": labels[part].tolist()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def noise(path: Path, n: int = 60) -> Path:
    """Such an npz of gray squares, which a classifier can tell apart."""
    files = []
    for i in range(n):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (i % 10 * 25, 99, i)).save(buffer, "JPEG", quality=75)
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    labels = (np.arange(n) % 10).astype(np.uint8)
    np.savez(path, jpeg=np.concatenate(files), offsets=offsets, labels=labels, n_train=n * 2 // 3)
    return path
