"""Sets by name, each in its genuine layout, written small."""

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import composed
from PIL import Image
from scipy.io import savemat

from ccdiff.config.build import build_data
from ccdiff.data import Split
from ccdiff.errors import UserError

RANDOM = np.random.default_rng(0)


def idx(path: Path, array: np.ndarray) -> None:
    """Yann LeCun's format: a magic number with the dimensions, their lengths, then bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">{1 + array.ndim}i", 0x0800 + array.ndim, *array.shape)
    path.write_bytes(head + array.tobytes())


def load(*overrides: str) -> tuple[tuple[str, ...], Split, Split]:
    data = build_data(composed(*overrides))
    return data.names, *data.load()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("data", "folder", "names"),
    [
        ("fashion_mnist", "FashionMNIST", ("T-shirt", "ankle boot")),
        ("kmnist", "KMNIST", ("o", "wo")),
    ],
)
def test_sets_in_the_layout_of_mnist(tmp_path, data, folder, names):
    pixels = RANDOM.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    labels = np.array([0, 9, 3, 4, 5, 6], dtype=np.uint8)
    for part in ("train", "t10k"):
        idx(tmp_path / folder / "raw" / f"{part}-images-idx3-ubyte", pixels)
        idx(tmp_path / folder / "raw" / f"{part}-labels-idx1-ubyte", labels)
    found, train, heldout = load(f"data={data}", f"data.root={tmp_path}", "data.download=false")
    assert (found[0], found[-1], len(found)) == (*names, 10)
    for split in (train, heldout):
        assert torch.equal(split.images[:, 0], torch.from_numpy(pixels))
        assert split.labels.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("split", "first", "names"),
    [("letters", 1, "ab...z"), ("digits", 0, "01...9"), ("balanced", 0, "01...t")],
)
def test_emnist_stands_upright_and_counts_from_zero(tmp_path, split, first, names):
    upright = RANDOM.integers(0, 256, (4, 28, 28), dtype=np.uint8)
    for part in ("train", "test"):
        prefix = tmp_path / "EMNIST" / "raw" / f"emnist-{split}-{part}"
        idx(Path(f"{prefix}-images-idx3-ubyte"), upright.transpose(0, 2, 1).copy())
        idx(Path(f"{prefix}-labels-idx1-ubyte"), np.array([0, 1, 2, 3], np.uint8) + first)
    options = (f"data.split={split}", f"data.root={tmp_path}", "data.download=false")
    found, train, _ = load("data=emnist", *options)
    assert torch.equal(train.images[:, 0], torch.from_numpy(upright))
    assert train.labels.tolist() == [0, 1, 2, 3]
    assert f"{found[0]}{found[1]}...{found[-1]}" == names


def test_emnist_has_the_names_of_torchvision():
    from torchvision.datasets import EMNIST as Source

    for split, theirs in Source.classes_split_dict.items():
        data = build_data(composed("data=emnist", f"data.split={split}"))
        assert list(data.names) == [name for name in theirs if name != "N/A"]
    with pytest.raises(UserError, match=r"data\.split must be one of letters"):
        build_data(composed("data=emnist", "data.split=words"))


def test_svhn_names_its_tens_zero(tmp_path, monkeypatch):
    from torchvision.datasets import SVHN as Source

    pixels = RANDOM.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    listed = {}
    for part in ("train", "test"):
        path = tmp_path / f"{part}_32x32.mat"
        savemat(path, {"X": pixels, "y": np.array([[10], [1], [2], [9]], np.uint8)})
        listed[part] = ["nowhere", path.name, md5(path)]
    monkeypatch.setattr(Source, "split_list", listed)
    _, train, heldout = load("data=svhn", f"data.root={tmp_path}", "data.download=false")
    assert train.labels.tolist() == heldout.labels.tolist() == [0, 1, 2, 9]
    assert torch.equal(train.images, torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy()))


def test_stl10_stands_upright(tmp_path, monkeypatch):
    from torchvision.datasets import STL10 as Source

    upright = RANDOM.integers(0, 256, (3, 3, 96, 96), dtype=np.uint8)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    # The file holds columns before rows, and classes from 1.
    for part in ("train", "test", "unlabeled"):
        (folder / f"{part}_X.bin").write_bytes(upright.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{part}_y.bin").write_bytes(bytes([1, 10, 5]))
    (folder / "class_names.txt").write_text("airplane\n")
    sums = {path.name: md5(path) for path in folder.iterdir()}
    for name in ("train_list", "test_list"):
        files = [[file, sums[file]] for file, _ in getattr(Source, name)]
        monkeypatch.setattr(Source, name, files)
    _, train, heldout = load("data=stl10", f"data.root={tmp_path}", "data.download=false")
    assert train.labels.tolist() == heldout.labels.tolist() == [0, 9, 4]
    assert torch.equal(train.images, torch.from_numpy(upright))


def test_cifar100_has_its_fine_classes(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = RANDOM.integers(0, 256, (4, 3072), dtype=np.uint8)
    for part in ("train", "test"):
        batch = {"data": pixels, "fine_labels": [0, 99, 1, 2], "coarse_labels": [4, 1, 2, 3]}
        (folder / part).write_bytes(pickle.dumps(batch))
    options = (f"data.root={tmp_path}", "data.download=false", "data.verify=false")
    names, train, heldout = load("data=cifar100", *options)
    assert (names[0], names[99], len(set(names))) == ("apple", "worm", 100)
    assert train.labels.tolist() == heldout.labels.tolist() == [0, 99, 1, 2]
    assert torch.equal(train.images, torch.from_numpy(pixels.reshape(4, 3, 32, 32)))


def write_folders(root: Path, classes: list[str], *, size: int) -> None:
    for part in ("train", "val"):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for i in range(2):
                pixels = RANDOM.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{name}_{i}.png")


@pytest.mark.parametrize(
    ("data", "classes", "size"),
    [("afhq", ["cat", "dog", "wild"], 8), ("imagenet64", ["n01440764", "n01443537"], 64)],
)
def test_sets_that_come_as_folders(tmp_path, data, classes, size):
    write_folders(tmp_path / "wrapped" / data, classes, size=size)
    options = (f"data.root={tmp_path / 'wrapped'}", f"data.cache={tmp_path / 'cache'}")
    names, train, heldout = load(f"data={data}", *options)
    assert list(names) == classes
    for split in (train, heldout):
        assert split.labels.bincount().tolist() == [2] * len(classes)
    assert train.images.shape[1:] == ((3, 256, 256) if data == "afhq" else (3, 64, 64))


@pytest.mark.parametrize(("data", "k"), [("pathmnist", 9), ("chestmnist", 14)])
def test_sets_of_medmnist(tmp_path, data, k):
    arrays = {}
    for part, n in (("train", 10), ("val", 5), ("test", 3)):
        shape = (n, 28, 28, 3) if data == "pathmnist" else (n, 28, 28)
        arrays[f"{part}_images"] = RANDOM.integers(0, 256, shape, dtype=np.uint8)
        several = RANDOM.integers(0, 2, (n, k), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n) % k)[:, None] if data == "pathmnist" else several
    np.savez(tmp_path / f"{data}.npz", **arrays)
    options = (f"data.root={tmp_path / data}.npz", f"data.cache={tmp_path / 'cache'}")
    names, train, heldout = load(f"data={data}", *options)
    assert (len(names), len(train), len(heldout)) == (k, 10, 8)
    labels = np.concatenate([arrays["val_labels"], arrays["test_labels"]])
    assert heldout.labels.tolist() == (labels[:, 0] if data == "pathmnist" else labels).tolist()
    first = arrays["train_images"][0].reshape(28, 28, -1).transpose(2, 0, 1)
    assert torch.equal(train.images[0], torch.from_numpy(first.copy()))
