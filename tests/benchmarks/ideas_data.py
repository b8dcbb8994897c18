"""The two data sets on which ideas are compared, and who judges them, as files to carry along.

``python -m tests.benchmarks.ideas_data <folder> --mnist <its .gz files> --emoji <its .npz>``
writes ``mnist.npz`` and ``emoji.npz``, and trains what judges each where ``cache/`` does not hold
it: ten and three minutes of a core. Emoji that differ in skin alone are on one side of the split.
"""

import argparse
import gzip
import hashlib
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ccdiff.config.build import build_data
from ccdiff.data import DataSet, Split
from ccdiff.errors import UserError
from ccdiff.metrics.extractors import ClassifierSource, Material
from ccdiff.metrics.judge import Judge
from ccdiff.metrics.references import reference
from ccdiff.metrics.sketch import Sketch
from tests.benchmarks.ours import composed

__all__ = ["Judged", "data_overrides", "judged_of", "open_judged", "write_emoji", "write_mnist"]

_FILES = {"train": "train", "test": "t10k"}
_SKIN = re.compile(r"_?1f3f[b-f]", re.IGNORECASE)
_HELD_OUT = 0.1


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A data set with its judge.

    Arguments:
        train: Training images.
        heldout: Held-out images.
        judge: Trained on the training images.
        against: Held-out images in the judge's eyes.
        num_labels: Classes or attributes.
    """

    train: Split
    heldout: Split
    judge: Judge
    against: Sketch
    num_labels: int


def write_mnist(source: Path, out: Path) -> None:
    """Writes MNIST's four files as one ``.npz``: uint8 [N, 28, 28], and classes."""
    arrays = {}
    for part, name in _FILES.items():
        images = gzip.decompress((source / f"{name}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((source / f"{name}-labels-idx1-ubyte.gz").read_bytes())
        arrays[f"{part}_images"] = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
        arrays[f"{part}_labels"] = np.frombuffer(labels, np.uint8, offset=8)
    names = np.array([str(digit) for digit in range(10)])
    np.savez_compressed(out, **arrays, names=names)


def write_emoji(source: Path, out: Path, *, side: int = 32) -> None:
    """Writes emoji as one ``.npz``: on white, uint8 [N, side, side, 3], and 27 attributes.

    A tenth is held out, drawn by name without the skin's tone: those of one shape stay together.
    """
    with np.load(source, allow_pickle=False) as file:
        found = {name: file[name] for name in ("png", "offsets", "attrs", "attr_names", "files")}
    offsets, png = found["offsets"].tolist(), found["png"]
    images = np.stack(
        [_on_white(png[start:end].tobytes(), side) for start, end in itertools.pairwise(offsets)]
    )
    held: NDArray[np.bool_] = np.array([_held_out(str(name)) for name in found["files"]])
    np.savez_compressed(
        out,
        train_images=images[~held],
        train_labels=found["attrs"][~held],
        test_images=images[held],
        test_labels=found["attrs"][held],
        names=found["attr_names"],
    )


def _on_white(png: bytes, side: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        whole = image.convert("RGBA")
    white = Image.new("RGBA", whole.size, "white")
    white.alpha_composite(whole)
    return np.asarray(white.convert("RGB").resize((side, side), Image.Resampling.LANCZOS))


def _held_out(name: str) -> bool:
    shape = _SKIN.sub("", Path(name).stem)
    number = int.from_bytes(hashlib.blake2b(shape.encode(), digest_size=4).digest())
    return number < _HELD_OUT * 2**32


def data_overrides(npz: Path, *, cache: Path) -> list[str]:
    """The overrides that choose a written data set; one with attributes is told as such."""
    if not npz.is_file():
        raise UserError(f"{npz} is not there: python -m tests.benchmarks.ideas_data writes it")
    with np.load(npz, allow_pickle=False) as file:
        names, images, labels = file["names"], file["train_images"], file["train_labels"]
    return [
        "data=folder",
        f"data.root={npz}",
        f"data.cache={cache}",
        f"data.image_size={images.shape[1]}",
        f"data.channels={images.shape[3] if images.ndim == 4 else 1}",
        "data.label_names=[" + ",".join(f'"{name}"' for name in names.tolist()) + "]",
        f"conditioning={'multihot' if labels.ndim == 2 else 'onehot'}",
    ]


def open_judged(overrides: Sequence[str], *, cache: Path) -> Judged:
    """The data set that overrides name, with its judge."""
    return judged_of(build_data(composed(*overrides)), cache=cache)


def judged_of(data: DataSet, *, cache: Path) -> Judged:
    """The data set with its judge, which is trained and kept where ``cache`` does not hold it."""
    train, heldout = data.load()
    material = Material.of(data, train, heldout, cache=cache, device=torch.device("cpu"))
    judge = Judge.open(ClassifierSource(), material)
    return Judged(
        train=train,
        heldout=heldout,
        judge=judge,
        against=reference(heldout, judge.extractor, name="heldout", cache=cache),
        num_labels=material.num_labels,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mnist", type=Path, help="folder of its four .gz files")
    parser.add_argument("--emoji", type=Path, help="notoemoji72-png.npz")
    args = parser.parse_args()
    out = args.out.expanduser().absolute()
    out.mkdir(parents=True, exist_ok=True)
    for name, source, write in (
        ("mnist", args.mnist, write_mnist),
        ("emoji", args.emoji, write_emoji),
    ):
        if source is not None:
            write(source.expanduser(), out / f"{name}.npz")
            overrides = data_overrides(out / f"{name}.npz", cache=out / "prepared")
            judged = open_judged(overrides, cache=out / "cache")
            accuracy = judged.judge.classifier.classifier.heldout_accuracy
            sizes = f"{len(judged.train)} images, {len(judged.heldout)} held out"
            print(f"{name}: {sizes}, the judge agrees with {accuracy:.1%} of these")


if __name__ == "__main__":
    main()
