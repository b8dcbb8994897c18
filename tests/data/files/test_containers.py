"""One set in every container: the pixels and labels are the same, and damaged ones are told."""

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ccdiff.data import Folder, Hub, Split
from ccdiff.data.files.arrays import read_arrays
from ccdiff.errors import UserError

SIZES = {"train": 24, "test": 12}
NAMES = ["a", "b", "c"]
RANDOM = np.random.default_rng(0)
PIXELS = {part: RANDOM.integers(0, 256, (n, 6, 6, 3), dtype=np.uint8) for part, n in SIZES.items()}
# In order, so that containers sorted by name hold the images in the same order as arrays do.
LABELS = {part: np.sort(np.arange(n) % 3) for part, n in SIZES.items()}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def files() -> dict[str, bytes]:
    """The set as class folders in a split, by number so that all orders agree."""
    return {
        f"{part}/{NAMES[LABELS[part][i]]}/{i:03d}.png": png(PIXELS[part][i])
        for part, n in SIZES.items()
        for i in range(n)
    }


def folder(root: Path) -> None:
    for name, data in files().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def tabled(root: Path) -> None:
    """All images in one folder, with their classes and split in a table."""
    rows = ["file,label,split"]
    (root / "images").mkdir(parents=True)
    for part, n in SIZES.items():
        for i in range(n):
            (root / "images" / f"{part}{i}.png").write_bytes(png(PIXELS[part][i]))
            rows.append(f"images/{part}{i}.png,{NAMES[LABELS[part][i]]},{part}")
    (root / "table.csv").write_text("\n".join(rows))


def zipped(root: Path) -> None:
    with zipfile.ZipFile(root, "w") as archive:
        for name, data in files().items():
            archive.writestr(f"wrapped/{name}", data)


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def webdataset(root: Path, label=lambda part, i: (".cls", str(LABELS[part][i]))) -> None:
    """Two shards to a part, whose keys begin anew."""
    root.mkdir(exist_ok=True)
    for part, n in SIZES.items():
        for shard in range(2):
            with tarfile.open(root / f"{part}-{shard:06d}.tar", "w") as archive:
                for i in range(shard * n // 2, (shard + 1) * n // 2):
                    key = f"{i - shard * n // 2:04d}"
                    add(archive, f"{key}.png", png(PIXELS[part][i]))
                    ending, text = label(part, i)
                    add(archive, key + ending, text.encode())


def database(root: Path) -> None:
    root.mkdir()
    with lmdb.open(str(root), map_size=1 << 24) as environment, environment.begin(write=True) as t:
        for name, data in files().items():
            t.put(name.removesuffix(".png").encode(), data)


def npz(root: Path) -> None:
    arrays = {f"{part}_images": PIXELS[part] for part in SIZES}
    np.savez(root, **arrays, **{f"{part}_labels": LABELS[part][:, None] for part in SIZES})


def npy(root: Path) -> None:
    root.mkdir()
    for part in SIZES:
        np.save(root / f"x_{part}.npy", PIXELS[part].transpose(0, 3, 1, 2))
        np.save(root / f"y_{part}.npy", LABELS[part])


def parquet(root: Path) -> None:
    for part, n in SIZES.items():
        (root / part).mkdir(parents=True)
        images = [{"bytes": png(PIXELS[part][i]), "path": f"{i}.png"} for i in range(n)]
        table = pa.table({"image": images, "label": LABELS[part]})
        pq.write_table(table, root / part / "0000.parquet")


CONTAINERS = {
    "folder": (folder, "set"),
    "zip": (zipped, "set.zip"),
    "webdataset": (webdataset, "set"),
    "webdataset with json": (
        lambda root: webdataset(
            root, lambda part, i: (".json", json.dumps({"label": int(LABELS[part][i])}))
        ),
        "set",
    ),
    "lmdb": (database, "set"),
    "table": (tabled, "set"),
    "npz": (npz, "set.npz"),
    "npy": (npy, "set"),
    "parquet in folders of a split": (parquet, "set"),
}


def open_folder(root: Path, **options) -> Folder:
    settings = {"image_size": 6, "channels": 3, "flip": False, "cache": str(root.parent / "cache")}
    return Folder(root=str(root), **{**settings, **options})


def as_pairs(data) -> list[list[tuple[bytes, int]]]:
    """Pixels and labels of both splits, in an order that no container has a say in."""
    return [
        sorted(
            (image.numpy().tobytes(), label)
            for image, label in zip(split.images, split.labels.tolist(), strict=True)
        )
        for split in data.load()
    ]


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_holds_the_same_set(tmp_path, kind):
    write, name = CONTAINERS[kind]
    write(tmp_path / name)
    data = open_folder(tmp_path / name)
    assert len(data.names) == 3
    for split, part in zip(data.load(), SIZES, strict=True):
        images = torch.from_numpy(PIXELS[part].transpose(0, 3, 1, 2).copy())
        expected = Split(images, torch.from_numpy(LABELS[part]))
        assert split.fingerprint() == expected.fingerprint()


def test_tables_lie_beside_a_database_and_in_archives(tmp_path):
    names = [f"{i:03d}.png" for i in range(24)]
    table = "\n".join(
        ["file,round,red", *(f"{n},{i % 2},{i % 3 == 0}" for i, n in enumerate(names))]
    )
    content = {name: png(PIXELS["train"][i]) for i, name in enumerate(names)}
    (tmp_path / "folder").mkdir()
    (tmp_path / "lmdb").mkdir()
    for name, data in content.items():
        (tmp_path / "folder" / name).write_bytes(data)
    for where in ("folder", "lmdb"):
        (tmp_path / where / "t.csv").write_text(table)
    with (
        lmdb.open(str(tmp_path / "lmdb"), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for name, data in content.items():
            transaction.put(name.encode(), data)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in {**content, "t.csv": table.encode()}.items():
            archive.writestr(name, data)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, data in {**content, "t.csv": table.encode()}.items():
            add(archive, name, data)
    prints = {
        tuple(split.fingerprint() for split in open_folder(tmp_path / name).load())
        for name in ("folder", "lmdb", "x.zip", "x.tar")
    }
    assert len(prints) == 1


def test_arrays_of_attributes(tmp_path):
    bits = RANDOM.integers(0, 2, (24, 4))
    np.savez(tmp_path / "x.npz", images=PIXELS["train"][..., 0], labels=bits)
    names = ["p", "q", "r", "s"]
    data = open_folder(tmp_path / "x.npz", channels=1, label_names=names)
    assert data.names == tuple(names)
    train, heldout = data.load()
    found = {
        image.numpy().tobytes(): label.tolist()
        for split in (train, heldout)
        for image, label in zip(split.images, split.labels, strict=True)
    }
    expected = zip(PIXELS["train"][..., 0], bits.tolist(), strict=True)
    assert found == {pixels.tobytes(): row for pixels, row in expected}


@pytest.mark.parametrize(
    ("arrays", "names", "message"),
    [
        ({"images": PIXELS["train"]}, None, "holds the arrays images: it takes images and labels"),
        (
            {"x": PIXELS["train"] / 255, "y": LABELS["train"]},
            None,
            "are float64 .*: it takes uint8",
        ),
        ({"x": PIXELS["train"], "y": LABELS["test"]}, None, r"labels \(12,\) for 24 images"),
        (
            {"x": PIXELS["train"], "y": LABELS["train"] - 1},
            None,
            "-1, which names no class|two ways",
        ),
        ({"x": PIXELS["train"], "y": LABELS["train"]}, ["a"], "names 1 classes, 0 to 0"),
        ({"x": PIXELS["train"], "y": np.array([{}] * 24)}, None, "cannot be read as arrays"),
    ],
)
def test_arrays_of_another_form_are_told(tmp_path, arrays, names, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=message):
        read_arrays(tmp_path / "x.npz", label_names=names)


def test_shards_that_are_damaged_or_compressed_are_told(tmp_path):
    webdataset(tmp_path / "set")
    (tmp_path / "set" / "test-000001.tar").write_bytes(b"\x1f\x8b nonsense")
    with pytest.raises(UserError, match=r"test-000001\.tar cannot be read as a tar archive"):
        _ = open_folder(tmp_path / "set").names


def test_shards_and_images_beside_them_are_not_chosen_between(tmp_path):
    webdataset(tmp_path / "set")
    image = tmp_path / "set" / "cats" / "0.png"
    image.parent.mkdir()
    Image.new("RGB", (8, 8)).save(image)
    with pytest.raises(UserError, match=r"beside it 1 images, such as cats/0\.png"):
        _ = open_folder(tmp_path / "set").names


def test_a_shard_that_is_cut_short_is_told(tmp_path):
    webdataset(tmp_path / "set")
    data = open_folder(tmp_path / "set", max_bad_fraction=0)
    _ = data.names
    path = tmp_path / "set" / "train-000001.tar"
    os.truncate(path, path.stat().st_size // 3)
    with pytest.raises(UserError, match=r"the archive was cut short"):
        data.load()


def test_an_image_without_its_label_is_told(tmp_path):
    webdataset(tmp_path / "set", lambda part, i: (".cls" if i else ".txt", "0"))
    with pytest.raises(UserError, match=r"has no \.cls beside it"):
        _ = open_folder(tmp_path / "set").names


def test_links_out_of_a_shard_are_not_followed(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "secret.png").write_bytes(png(PIXELS["train"][0]))
    with tarfile.open(tmp_path / "set" / "x.tar", "w") as archive:
        info = tarfile.TarInfo("a/0.png")
        info.type, info.linkname = tarfile.SYMTYPE, "../../secret.png"
        archive.addfile(info)
    with pytest.raises(UserError, match="holds no images"):
        _ = open_folder(tmp_path / "set").names


def test_rows_with_a_path_in_place_of_bytes_say_what_to_do(tmp_path):
    images = pa.array(
        [{"bytes": None, "path": "/etc/hostname"}] * 12,
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    (tmp_path / "set").mkdir()
    pq.write_table(
        pa.table({"image": images, "label": np.arange(12) % 2}), tmp_path / "set" / "x.parquet"
    )
    with pytest.raises(UserError, match="embed_table_storage"):
        open_folder(tmp_path / "set").load()


def test_fine_and_coarse_classes_of_parquet_are_chosen_from(tmp_path):
    parquet(tmp_path / "set")
    for part in SIZES:
        path = tmp_path / "set" / part / "0000.parquet"
        table = pq.read_table(path).rename_columns(["img", "fine_label"])
        pq.write_table(table.append_column("coarse_label", pa.array(LABELS[part] // 2)), path)
    with pytest.raises(UserError, match=r"fine_label, coarse_label may each .*data\.class_column"):
        _ = open_folder(tmp_path / "set").names
    assert open_folder(tmp_path / "set", class_column="coarse_label").names == ("0", "1")


def test_an_unlabelled_test_split_is_left_out(tmp_path, caplog):
    parquet(tmp_path / "set")
    path = tmp_path / "set" / "test" / "0000.parquet"
    table = pq.read_table(path).drop_columns("label")
    pq.write_table(table.append_column("label", pa.array([-1] * SIZES["test"])), path)
    train, heldout = open_folder(tmp_path / "set").load()
    assert len(train) + len(heldout) == SIZES["train"]
    assert "12 images of" in caplog.text


def test_a_set_of_the_hub(tmp_path, monkeypatch):
    # A local folder is read by the library as a set of the hub is.
    folder(tmp_path / "set")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "kept")
    options = {"image_size": 6, "channels": 3, "flip": False, "cache": str(tmp_path / "cache")}
    data = Hub(name=str(tmp_path / "set"), **options)
    assert data.names == tuple(NAMES)
    assert as_pairs(data) == as_pairs(open_folder(tmp_path / "set"))
    with pytest.raises(UserError, match=r"data\.split=dev: .* has train, test"):
        _ = Hub(name=str(tmp_path / "set"), split="dev", **options).names
    with pytest.raises(UserError, match="cannot be loaded"):
        _ = Hub(name=str(tmp_path / "nothing"), **options).names
    with pytest.raises(UserError, match=r"pass data\.name="):
        Hub(**options)


def test_one_hot_labels_are_classes_and_real_numbers_are_numbers(tmp_path):
    images = np.zeros((12, 6, 6), np.uint8)
    np.savez(tmp_path / "one_hot.npz", images=images, labels=np.eye(4)[np.arange(12) % 4])
    data = open_folder(tmp_path / "one_hot.npz")
    assert data.names == ("0", "1", "2", "3")
    assert data.known_labels.tolist() == [i % 4 for i in range(12)]
    numbers = np.stack([np.arange(12) / 8, np.arange(12) * 30.0], axis=1)
    numbers[3, 1] = np.nan
    np.savez(tmp_path / "numbers.npz", images=images, labels=numbers)
    data = open_folder(tmp_path / "numbers.npz", numbers=["size", "angle"])
    assert data.names == ("size", "angle")
    np.testing.assert_array_equal(data.known_labels, numbers.astype(np.float32))
    for names in (["size"], None):
        with pytest.raises(UserError, match=r"data\.numbers"):
            _ = open_folder(tmp_path / "numbers.npz", numbers=names).names


@pytest.mark.parametrize("there", [True, False])
def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch, caplog, there):
    asked, offline = [], []

    def answers(url: str, *, seconds: float) -> bool:
        asked.append(seconds)
        return there

    def load(name: str, config: str | None) -> None:
        offline.append((datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE))
        raise ConnectionError("no such set")

    datasets = pytest.importorskip("datasets")
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr("ccdiff.data.files.hub.answers", answers)
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    told = "cannot be loaded" if there else "does not answer, and nothing of user/set was kept"
    with pytest.raises(UserError, match=told):
        _ = Hub(name="user/set", image_size=8, channels=3, flip=False).names
    assert asked
    assert max(asked) <= 5
    assert set(offline) == {(not there, not there)}
    assert not datasets.config.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    assert ("does not answer" in caplog.text) == (not there)
