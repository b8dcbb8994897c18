"""Preparation happens once, whole or not at all, and comes out the same however often it stops."""

import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccdiff.data import Folder
from ccdiff.data.files import preparation, prepared_files
from ccdiff.data.files import prepared as prepared_copies
from ccdiff.errors import UserError

NUM = 40


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Images with a table, the fourth of them bad."""
    folder = tmp_path_factory.mktemp("set")
    random = np.random.default_rng(0)
    for i in range(NUM):
        Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(
            folder / f"{i}.png"
        )
    (folder / "3.png").write_bytes(b"not an image")
    write_table(folder)
    return folder


def write_table(folder: Path, odd: int = 2) -> None:
    rows = [f"{i}.png,{int(i % odd == 1)},1" for i in range(NUM)]
    (folder / "table.csv").write_text("\n".join(["file,odd,all", *rows]))


@pytest.fixture
def folder(pictures, tmp_path) -> Path:
    """A copy of the images that a test may change."""
    return Path(shutil.copytree(pictures, tmp_path / "set"))


def open_folder(folder: Path, cache: Path, **options) -> Folder:
    settings = {"image_size": 8, "channels": 3, "flip": False, "max_bad_fraction": 0.1}
    return Folder(root=str(folder), cache=str(cache), **{**settings, **options})


def contents(cache: Path) -> dict[str, str]:
    """Every file below ``cache`` with its hash."""
    return {
        str(path.relative_to(cache)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(cache.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """Counts the images that are decoded."""
    count = [0]
    decode = preparation.decode

    def counting(*arguments):
        count[0] += 1
        return decode(*arguments)

    monkeypatch.setattr(preparation, "decode", counting)
    return count


def test_images_are_decoded_once(folder, tmp_path, decoded):
    first = open_folder(folder, tmp_path / "cache").load()
    assert decoded == [NUM]
    again = open_folder(folder, tmp_path / "cache").load()
    assert decoded == [NUM]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_the_copy_explains_itself(folder, tmp_path):
    prepared = open_folder(folder, tmp_path / "cache").prepare()
    manifest = json.loads((prepared.path / "manifest.json").read_text())
    pixels = np.load(prepared.path / "images.npy")
    labels = np.load(prepared.path / "labels.npy")
    assert list(pixels.shape) == manifest["images"]["shape"] == [NUM - 1, 3, 8, 8]
    assert labels.shape == (NUM - 1, 2)
    assert manifest["labels"]["names"] == ["odd", "all"]
    assert manifest["images"]["train"] == 35  # 4 of 40 held out, one of the others bad
    assert manifest["bad"] == [
        {"index": 3, "file": "3.png", "why": "not an image in a known format"}
    ]
    settings = {"image_size": [8, 8], "channels": 3, "background": [255, 255, 255]}
    assert manifest["settings"] == {**settings, "decode": "exact", "gray_max": 65535}
    assert {"ccdiff", "numpy", "pillow"} < manifest["versions"].keys()
    prepared.verify()


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 10},
        {"image_size": [8, 10]},
        {"channels": 1},
        {"background": "black"},
        {"heldout": 0.3},
        {"decode": "fast"},
    ],
)
def test_other_settings_make_another_copy(folder, tmp_path, decoded, options):
    usual = open_folder(folder, tmp_path / "cache").prepare()
    before = contents(usual.path)
    other = open_folder(folder, tmp_path / "cache", **options).prepare()
    assert other.path != usual.path
    assert decoded == [2 * NUM]
    assert contents(usual.path) == before


@pytest.mark.parametrize(
    "options",
    [{"attributes": ["all"]}, {"attribute": "odd"}, {"balance": "class"}, {"flip": True}],
)
def test_settings_that_change_no_pixel_share_the_copy(folder, tmp_path, decoded, options):
    usual = open_folder(folder, tmp_path / "cache").prepare()
    before = contents(usual.path)
    assert open_folder(folder, tmp_path / "cache", **options).prepare().path == usual.path
    assert decoded == [NUM]
    assert contents(usual.path) == before


def test_an_edited_image_is_seen(folder, tmp_path):
    usual = open_folder(folder, tmp_path / "cache").prepare()
    path = folder / "0.png"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert open_folder(folder, tmp_path / "cache").prepare().path != usual.path


def test_edited_labels_cost_no_decoding(folder, tmp_path, decoded):
    cache = tmp_path / "cache"
    train, _ = open_folder(folder, cache).load()
    write_table(folder, odd=8)
    changed, _ = open_folder(folder, cache).load()
    assert decoded == [NUM]
    assert torch.equal(train.images, changed.images)
    assert not torch.equal(train.labels, changed.labels)
    prepared = open_folder(folder, cache).prepare()
    prepared.verify()
    assert np.array_equal(np.load(prepared.path / "labels.npy")[:35], changed.labels.numpy())


def test_the_order_of_the_folder_is_of_no_concern(folder, tmp_path):
    usual = open_folder(folder, tmp_path / "cache").prepare()
    table = (folder / "table.csv").read_text().splitlines()
    (folder / "table.csv").write_text("\n".join([table[0], *reversed(table[1:])]))
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere" / "set"))
    again = open_folder(moved, tmp_path / "cache").prepare()
    assert again.path == usual.path


def prepare_until_killed(folder: Path, cache: Path, kill: int) -> int:
    """Prepares in a fork that kills itself at a flush of a file; returns how it ended."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    count, sync = [0], os.fsync

    def dying(file: int) -> None:
        count[0] += 1
        if count[0] == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)
        if -count[0] == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        os.fsync = dying
        preparation._STEP_IMAGES = 7
        open_folder(folder, cache).prepare()
    finally:
        os._exit(0)


def test_a_killed_preparation_goes_on_and_comes_out_the_same(
    pictures, tmp_path, decoded, monkeypatch
):
    whole, early, late = (tmp_path / name for name in ("whole", "early", "late"))
    open_folder(pictures, whole).prepare()
    # A process for each kill -9, before (positive) or after (negative) the n-th time that it
    # flushes a file to the disk. Each of the six steps does so for pixels and for the journal;
    # then come the header, the manifest and the labels, and folders after renaming.
    kills = [(early, n) for n in (1, 2, -1, -2, 3)]
    kills += [(late, n) for n in (12, 3, -2, 3, 2, -1, 1)]
    ended = [prepare_until_killed(pictures, cache, n) for cache, n in kills]
    assert ended == [signal.SIGKILL] * len(kills)

    (unfinished,) = early.glob("*.partial")
    lines = (unfinished / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    # A line that was cut short, and pixels that no line knows of.
    (unfinished / "journal.jsonl").write_bytes(b"".join(lines) + lines[0][:20])
    with (unfinished / "images.npy").open("ab") as file:
        file.write(b"half an image")
    decoded[0] = 0
    with monkeypatch.context() as patched:
        patched.setattr(preparation, "file_sha256", lambda path: sys.exit("stopped"))
        with pytest.raises(SystemExit):
            open_folder(pictures, early).prepare()
    assert decoded == [NUM - 21]
    for cache in (early, late):
        open_folder(pictures, cache).prepare()
        assert decoded == [NUM - 21]
        assert contents(cache) == contents(whole)


def test_pixels_that_never_reached_the_disk_are_made_again(pictures, tmp_path, monkeypatch):
    # After a power cut the journal may know of more than there is.
    monkeypatch.setattr(preparation, "_STEP_IMAGES", 7)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    final = open_folder(pictures, whole).prepare().path
    unfinished = broken / f"{final.name}.partial"
    monkeypatch.setattr(preparation, "file_sha256", lambda path: sys.exit("killed"))
    with pytest.raises(SystemExit):
        open_folder(pictures, broken).prepare()
    monkeypatch.undo()
    os.truncate(unfinished / "images.npy", 128 + 20 * 3 * 8 * 8)
    open_folder(pictures, broken).prepare()
    assert contents(broken) == contents(whole)


def test_two_processes_prepare_once(folder, tmp_path, decoded):
    threads = [
        threading.Thread(target=lambda: open_folder(folder, tmp_path / "cache").prepare())
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert decoded == [NUM]


def test_a_damaged_copy_is_not_trained_on(folder, tmp_path):
    prepared = open_folder(folder, tmp_path / "cache").prepare()
    with prepared.images_path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(UserError, match=f"{prepared.path} are damaged: delete that folder"):
        prepared.verify()
    with pytest.raises(UserError, match=f"{prepared.path} are damaged: delete that folder"):
        open_folder(folder, tmp_path / "cache").load()
    os.truncate(prepared.images_path, 1000)
    with pytest.raises(UserError, match="damaged"):
        open_folder(folder, tmp_path / "cache").load()
    shutil.rmtree(prepared.path)
    open_folder(folder, tmp_path / "cache").prepare().verify()


def test_a_sound_copy_is_read_through_once_in_a_process(folder, tmp_path, monkeypatch):
    open_folder(folder, tmp_path / "cache").load()
    monkeypatch.setattr(prepared_copies, "file_sha256", lambda path: sys.exit("read again"))
    open_folder(folder, tmp_path / "cache").load()
    monkeypatch.setattr(prepared_copies, "_checked", set())
    with pytest.raises(SystemExit):
        open_folder(folder, tmp_path / "cache").load()


@pytest.mark.parametrize("size", [0, 10, 32, 33, 70])
def test_files_of_any_size_have_a_hash_of_their_own(tmp_path, monkeypatch, size):
    monkeypatch.setattr(prepared_files, "_PART_BYTES", 32)
    content = bytes(range(size))
    (tmp_path / "a").write_bytes(content)
    found = prepared_files.file_sha256(tmp_path / "a")
    if size <= 32:
        assert found == hashlib.sha256(content).hexdigest()
    for i in range(size):
        (tmp_path / "b").write_bytes(content[:i] + bytes([255 - content[i]]) + content[i + 1 :])
        assert prepared_files.file_sha256(tmp_path / "b") != found


@pytest.mark.parametrize("step", [256, 3])
def test_held_out_twins_of_training_images_are_left_out(folder, tmp_path, monkeypatch, step):
    monkeypatch.setattr(preparation, "_STEP_IMAGES", step)
    held = open_folder(folder, tmp_path / "cache").source.heldout
    names = [f"{i}.png" for i in range(NUM)]
    ours, other = (np.flatnonzero(part) for part in (held, ~held))
    assert len(ours) > 2
    twins = [names[i] for i in ours[:1]]
    shutil.copy(folder / names[other[5]], folder / twins[0])
    # Two training images may be twins.
    shutil.copy(folder / names[other[6]], folder / names[other[7]])
    prepared = open_folder(folder, tmp_path / "cache").prepare()
    source = open_folder(folder, tmp_path / "cache").source
    assert [source.images.names[i] for i in prepared.manifest["twins"]] == twins
    train, heldout = open_folder(folder, tmp_path / "cache").load()
    assert len(train) + len(heldout) == NUM - 2  # one is bad
    seen = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in seen for image in heldout.images)


def test_the_last_held_out_image_of_a_class_stays_though_it_has_a_twin(tmp_path):
    for i in range(20):
        folder = tmp_path / "set" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (100 * (i % 2), 0, 0)).save(folder / f"{i}.png")
    _, heldout = open_folder(tmp_path / "set", tmp_path / "cache").load()
    assert heldout.labels.bincount().tolist() == [1, 1]


def test_no_room_is_told_before_anything_is_decoded(folder, tmp_path, monkeypatch, decoded):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 100))
    with pytest.raises(UserError, match=r"need .* GiB, but .* has 0\.0 GiB free.*data\.cache"):
        open_folder(folder, tmp_path / "cache").load()
    assert decoded == [0]


def test_a_cache_that_cannot_be_written_is_told(folder, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot keep prepared images in .*data\.cache=<folder>"):
        open_folder(folder, tmp_path / "cache").load()


def test_a_disk_that_fills_up_is_told(folder, tmp_path, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preparation, "_sync", full)
    with pytest.raises(UserError, match=r"No space left on device.*data\.cache=<folder>"):
        open_folder(folder, tmp_path / "cache").load()


def test_the_next_step_is_decoded_while_one_is_written(folder, tmp_path, monkeypatch):
    ahead, decode, sync = threading.Event(), preparation.decode, preparation._sync
    seen: list[None] = []

    def counting(*arguments):
        seen.append(None)
        if len(seen) > 7:
            ahead.set()
        return decode(*arguments)

    def writing(file):
        assert ahead.wait(10)
        sync(file)

    monkeypatch.setattr(preparation, "_STEP_IMAGES", 7)
    monkeypatch.setattr(preparation, "decode", counting)
    monkeypatch.setattr(preparation, "_sync", writing)
    open_folder(folder, tmp_path / "cache").prepare().verify()


def test_what_is_asked_for_ahead_is_let_be_when_a_step_fails(
    folder, tmp_path, monkeypatch, decoded
):
    def full(file):
        raise OSError(28, "No space left on device")

    counting = preparation.decode

    def slow(*arguments):
        time.sleep(0.02)
        return counting(*arguments)

    monkeypatch.setattr(preparation, "_STEP_IMAGES", 10)
    monkeypatch.setattr(preparation, "num_cores", lambda: 2)
    monkeypatch.setattr(preparation, "decode", slow)
    monkeypatch.setattr(preparation, "_sync", full)
    with pytest.raises(UserError, match="No space left"):
        open_folder(folder, tmp_path / "cache").load()
    assert decoded[0] < 16  # 20 were asked for


def test_the_source_is_only_read(folder, tmp_path):
    def state() -> dict[str, tuple[int, str]]:
        found = contents(folder)
        return {name: (os.stat(folder / name).st_mtime_ns, found[name]) for name in found}

    before = state()
    open_folder(folder, tmp_path / "cache").load()
    assert state() == before


def test_the_file_is_a_numpy_file(folder, tmp_path):
    prepared = open_folder(folder, tmp_path / "cache").prepare()
    rows = np.load(prepared.images_path, mmap_mode="r")
    assert rows.offset == prepared_files.HEADER_BYTES
    for shape in [(1, 1, 1, 1), (10**9, 3, 4096, 4096)]:
        assert len(prepared_files.header(shape)) == prepared_files.HEADER_BYTES


def test_small_images_are_told(folder, tmp_path, caplog):
    open_folder(folder, tmp_path / "cache", image_size=13).load()
    assert "39 of 39 images are smaller than data.image_size=13" in caplog.text


def test_a_package_that_is_not_installed_prepares_too(folder, tmp_path, monkeypatch):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(prepared_files, "version", missing)
    prepared = open_folder(folder, tmp_path / "cache").prepare()
    assert prepared.manifest["versions"]["ccdiff"] is None
