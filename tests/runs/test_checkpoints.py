"""Checkpoints: whole or not there at all, checked by their checksum, and never run as code."""

import errno
import hashlib
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch

from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import (
    FORMAT,
    Checkpoint,
    DamagedCheckpoint,
    load_checkpoint,
    open_checkpoint,
    save_checkpoint,
)
from ccdiff.runs.folder import Run
from ccdiff.system import atomic as durable
from ccdiff.training.saving import SaveCheckpoint

CHECKPOINT = Checkpoint(
    format=FORMAT,
    step=3,
    seconds=1.0,
    cpu_seconds=2.0,
    config="seed: 0",
    data="0123",
    denoiser={"w": torch.arange(1000.0)},
    ema={"ema_model.w": torch.ones(2)},
    optimizer={},
    rng={"cpu": torch.get_rng_state(), "cuda": []},
    draw=0,
    loss_sum=torch.tensor(0.5),
    loss_count=1,
    pending=[],
    tracker_id=None,
)


def saved(path: Path, **changes) -> Path:
    save_checkpoint({**CHECKPOINT, **changes}, path)
    return path


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "step.pt"
    save_checkpoint(CHECKPOINT, path)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint({**CHECKPOINT, "step": 4, "bad": lambda: None}, path)
    assert load_checkpoint(path)["step"] == 3
    assert os.listdir(tmp_path) == ["step.pt"]


@pytest.mark.parametrize("keep", [0, 1, 100, -50])
def test_a_damaged_checkpoint_is_named(tmp_path, keep):
    path = tmp_path / "step.pt"
    save_checkpoint(CHECKPOINT, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"step\.pt"):
        load_checkpoint(path)


class _Malice:
    def __reduce__(self):
        return os.system, ("touch malice",)


def test_loading_never_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": FORMAT, "config": _Malice()}, "bad.pt")
    with pytest.raises(UserError, match="not a checkpoint"):
        load_checkpoint(Path("bad.pt"))
    assert not Path("malice").exists()


def test_a_newer_format_is_refused(tmp_path):
    save_checkpoint({**CHECKPOINT, "format": FORMAT + 1}, tmp_path / "step.pt")
    with pytest.raises(UserError, match="update ccdiff"):
        load_checkpoint(tmp_path / "step.pt")


def test_a_checkpoint_is_an_ordinary_archive_with_its_checksum(tmp_path):
    path = saved(tmp_path / "step.pt")
    plain = torch.load(path, weights_only=True)
    assert torch.equal(plain["denoiser"]["w"], CHECKPOINT["denoiser"]["w"])
    comment = zipfile.ZipFile(path).comment
    body = path.read_bytes()[: -len(comment) - 2] + bytes(2)
    assert comment.decode().split()[-1] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damage_at_any_offset_is_found_and_the_one_before_is_taken(tmp_path, damage, caplog):
    run = Run(tmp_path)
    good, newest = saved(run.checkpoint(3)), saved(run.checkpoint(6), step=6)
    whole = newest.read_bytes()
    chance = random.Random(0)
    # The seal and both ends, then anywhere.
    offsets = [0, 1, len(whole) - 1, len(whole) - 70, len(whole) - 79, len(whole) - 80]
    for offset in [*offsets, *(chance.randrange(len(whole)) for _ in range(50))]:
        if damage == "truncated":
            newest.write_bytes(whole[:offset])
        else:
            flipped = whole[offset] ^ (1 << chance.randrange(8))
            newest.write_bytes(whole[:offset] + bytes([flipped]) + whole[offset + 1 :])
        with pytest.raises(DamagedCheckpoint, match="step_00000006"):
            load_checkpoint(newest)
        caplog.clear()
        path, checkpoint = open_checkpoint(str(tmp_path))
        assert (path, checkpoint["step"]) == (good, 3)
        assert "step_00000003.pt" in caplog.text
    with pytest.raises(DamagedCheckpoint):
        open_checkpoint(str(newest))  # A file that was asked for by name has no stand-in.


def test_where_all_are_damaged_it_says_so(tmp_path):
    for step in (3, 6):
        saved(Run(tmp_path).checkpoint(step)).write_bytes(b"gone")
    with pytest.raises(DamagedCheckpoint, match="step_00000003"):
        open_checkpoint(str(tmp_path))


def layout(value: object) -> object:
    """Types, names and shapes, of whatever values."""
    if isinstance(value, dict):
        return {key: layout(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [layout(inner) for inner in value]
    return (value.dtype, value.shape) if isinstance(value, torch.Tensor) else type(value)


def test_sealed_nonsense_is_refused(tmp_path):
    """A checksum proves nothing about who wrote the file: numbers may differ, nothing else."""
    path = saved(tmp_path / "step.pt")
    whole = path.read_bytes()[:-80] + bytes(2)
    chance = random.Random(1)
    refused = 0
    for _ in range(200):
        start = chance.randrange(len(whole))
        junk = chance.randbytes(chance.choice((1, 4, 19, 20, 21)))
        body = whole[:start] + junk + whole[start + (len(junk) if len(junk) < 19 else 20) :]
        comment = b"ccdiff sha256 " + hashlib.sha256(body[:-2] + bytes(2)).hexdigest().encode()
        path.write_bytes(body[:-2] + len(comment).to_bytes(2, "little") + comment)
        try:
            found = load_checkpoint(path)
        except UserError:
            refused += 1
        else:
            assert layout(found) == layout(CHECKPOINT)
    assert 50 < refused < 150


def test_what_takes_more_memory_than_the_file_is_long_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path / "step.pt")
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("zeros", bytes(1 << 22))
    monkeypatch.setattr(torch, "load", lambda *args, **settings: pytest.fail("it was read"))
    assert packed.stat().st_size < 1 << 20
    with pytest.raises(DamagedCheckpoint, match="more memory"):
        load_checkpoint(packed)


def test_a_tensor_that_is_more_than_what_is_stored_is_refused(tmp_path):
    path = saved(tmp_path / "step.pt", denoiser={"weight": torch.zeros(1).expand(10**6)})
    with pytest.raises(DamagedCheckpoint, match="larger than what is stored"):
        load_checkpoint(path)


@pytest.mark.parametrize("key", sorted(Checkpoint.__annotations__))
def test_a_checkpoint_of_other_kinds_of_values_is_refused(tmp_path, key):
    path = saved(tmp_path / "step.pt", **{key: ("of", "no", "use")})
    with pytest.raises(DamagedCheckpoint, match=rf"step.pt.*({key}|not a checkpoint)"):
        load_checkpoint(path)
    lacking = {name: value for name, value in CHECKPOINT.items() if name != key}
    save_checkpoint(lacking, path)
    with pytest.raises(DamagedCheckpoint, match=rf"step.pt.*({key}|not a checkpoint)"):
        load_checkpoint(path)


def test_the_first_format_is_migrated(tmp_path):
    old = {
        k: v
        for k, v in CHECKPOINT.items()
        if k not in ("data", "draw", "loss_sum", "loss_count", "pending", "cpu_seconds")
    }
    torch.save({**old, "format": 1}, tmp_path / "old.pt")
    new = load_checkpoint(tmp_path / "old.pt")
    assert new.keys() == Checkpoint.__annotations__.keys()
    assert new["format"] == FORMAT
    assert (new["data"], new["draw"], new["loss_count"], new["pending"]) == (None, 0, 0, [])
    assert new["cpu_seconds"] == 0
    torch.save({**old, "format": 2}, tmp_path / "unsealed.pt")
    with pytest.raises(DamagedCheckpoint, match="checksum is gone"):
        load_checkpoint(tmp_path / "unsealed.pt")


def test_rotation_keeps_the_newest_and_what_fits(tmp_path):
    run = Run(tmp_path)
    size = saved(run.checkpoint(0)).stat().st_size
    keeps = {"keep": 3, "keep_bytes": 2.5 * size}
    settings = {"every": 1, "run": run, "config": "", "data": "", "run_log": None}
    for step in range(1, 5):
        saved(run.checkpoint(step))
        SaveCheckpoint(**keeps, **settings)._remove_old()
        assert len(run.checkpoints()) == 2
        assert run.latest_checkpoint() == run.checkpoint(step)
    SaveCheckpoint(keep=1, keep_bytes=1.0, **settings)._remove_old()
    assert run.checkpoints() == [run.checkpoint(4)]


def test_what_reads_back_otherwise_is_never_given_the_name(tmp_path, monkeypatch):
    path = saved(tmp_path / "step.pt")
    sync = durable._sync

    def failing_disk(file):
        file.seek(100)
        file.write(b"?")
        sync(file)

    monkeypatch.setattr(durable, "_sync", failing_disk)
    with pytest.raises(UserError, match="reads back otherwise"):
        saved(path, step=4)
    assert load_checkpoint(path)["step"] == 3
    assert os.listdir(tmp_path) == ["step.pt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failing_disk_leaves_the_last_good_one(tmp_path, monkeypatch, call, error):
    path = saved(tmp_path / "step.pt")

    def fail(*args):
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(UserError, match=rf"{os.strerror(error)}; it needs [0-9.]+ MiB"):
            saved(path, step=4)
    assert load_checkpoint(path)["step"] == 3
    assert os.listdir(tmp_path) == ["step.pt"]


def test_a_full_disk_is_told_before_writing(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"full; it needs 0\.1 MiB, and 0\.0 MiB are free"):
        saved(tmp_path / "step.pt")


def test_a_disk_that_fills_while_writing(tmp_path, monkeypatch):
    """As a limit on the size of files has it: the write itself fails, inside torch.save."""
    path = saved(tmp_path / "step.pt")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(UserError, match="it needs"):
            saved(path, step=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_checkpoint(path)["step"] == 3
    assert os.listdir(tmp_path) == ["step.pt"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_or_read_only_keeps_what_it_has(small_disk):
    path = saved(small_disk / "step.pt")
    (small_disk / "other").write_bytes(bytes(170_000))
    with pytest.raises(UserError, match=r"full; it needs 0\.1 MiB, and 0\.0 MiB are free"):
        saved(path, step=4)
    (small_disk / "other").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UserError, match="Read-only file system"):
        saved(path, step=4)
    assert load_checkpoint(path)["step"] == 3
