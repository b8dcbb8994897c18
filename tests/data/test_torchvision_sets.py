"""MNIST and CIFAR-10 in torchvision's layouts, written small and exact."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from ccdiff.data import CIFAR10, MNIST
from ccdiff.errors import UserError

NAMES = [str(i) for i in range(10)]


@pytest.fixture
def cifar(tmp_path) -> Path:
    """Six batches of four images, their first pixels counting up, in CIFAR-10's own format."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for i, name in enumerate(names):
        data = np.zeros((4, 3072), dtype=np.uint8)
        data[:, 0] = np.arange(4) + 4 * i  # red, top left
        data[:, 1024 + 31] = 200  # green, top right
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [0, 1, 2, i]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    return tmp_path


def cifar10(root: Path, *, verify: bool, download: bool = True) -> CIFAR10:
    return CIFAR10(
        root=str(root),
        download=download,
        verify=verify,
        image_size=32,
        channels=3,
        label_names=NAMES,
        flip=True,
    )


def test_cifar_pixels_and_labels_are_where_they_belong(cifar):
    train, heldout = cifar10(cifar, verify=False).load()
    assert train.images.shape == (20, 3, 32, 32)
    assert train.images[:, 0, 0, 0].tolist() == list(range(20))
    assert (train.images[:, 1, 0, 31] == 200).all()
    assert train.images.sum() == sum(range(20)) + 20 * 200
    assert heldout.labels.tolist() == [0, 1, 2, 5]


def test_the_home_folder_is_found_where_no_shell_writes_it_out(cifar, monkeypatch):
    monkeypatch.setenv("HOME", str(cifar))
    assert len(cifar10(Path("~"), verify=False).load()[0]) == 20


class _Malice:
    def __reduce__(self):
        return eval, ("open('malice', 'w')",)


@pytest.mark.parametrize("content", [pickle.dumps({"data": _Malice()}), b"junk", pickle.dumps(7)])
def test_a_batch_that_is_no_array_is_refused_and_not_run(cifar, content, monkeypatch):
    monkeypatch.chdir(cifar)
    (cifar / "cifar-10-batches-py" / "data_batch_2").write_bytes(content)
    with pytest.raises(UserError, match=r"unsafe|not a batch"):
        cifar10(cifar, verify=False).load()
    assert not Path("malice").exists()


@pytest.mark.parametrize("download", [True, False])
def test_a_copy_with_other_checksums_is_refused_and_kept(cifar, download):
    before = {p.name: p.read_bytes() for p in (cifar / "cifar-10-batches-py").iterdir()}
    with pytest.raises(UserError, match="CIFAR"):
        cifar10(cifar, verify=True, download=download).load()
    assert {p.name: p.read_bytes() for p in (cifar / "cifar-10-batches-py").iterdir()} == before


def test_mnist_is_read_from_its_own_files(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, n in (("train", 3), ("t10k", 2)):
        images = np.arange(n * 784, dtype=np.uint32).astype(np.uint8)
        packed = struct.pack(">HBBIII", 0, 8, 3, n, 28, 28) + images.tobytes()
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(packed)
        (raw / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(packed))
        packed = struct.pack(">HBBI", 0, 8, 1, n) + bytes(range(n))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(packed)
        (raw / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(packed))
    data = MNIST(
        root=str(tmp_path),
        download=False,
        image_size=28,
        channels=1,
        label_names=NAMES,
        flip=False,
    )
    train, heldout = data.load()
    assert train.images.shape == (3, 1, 28, 28)
    assert torch.equal(train.images.flatten()[:300], torch.arange(300).to(torch.uint8))
    assert heldout.labels.tolist() == [0, 1]
