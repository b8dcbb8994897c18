"""Files that are whole or as they were, and locks that let one process at a time in."""

import errno
import logging
import os
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from ccdiff.curve.table import write_csv
from ccdiff.data.files.prepared_files import write_manifest
from ccdiff.errors import UserError
from ccdiff.metrics.cache import keep, kept
from ccdiff.runs.folder import Run
from ccdiff.runs.record import Record
from ccdiff.system.atomic import made_folder, write_text, write_whole
from ccdiff.system.locks import locked

WRITERS = {
    "record.json": lambda path, n: Record(f"hash {n}", {}, seeds={}).write(Run(path.parent)),
    "curve.csv": lambda path, n: write_csv([["n"], [n]], path),
    "index.html": lambda path, n: write_text(path, f"page {n}"),
    "kept.pt": lambda path, n: keep({"n": torch.full((9,), n)}, path),
    "manifest.json": lambda path, n: write_manifest(path.parent, {"n": n}),
}


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_fails_leaves_what_was_there_and_nothing_else(
    tmp_path, monkeypatch, name, call
):
    path = tmp_path / name
    WRITERS[name](path, 1)
    before = path.read_bytes()

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(UserError, match=f"cannot write .*{name}: No space left"):
            WRITERS[name](path, 2)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [name]
    WRITERS[name](path, 2)
    assert path.read_bytes() != before


def test_processes_that_write_the_same_at_once_do_not_mix(tmp_path, monkeypatch):
    path = tmp_path / "shared"

    def first(file):
        file.write(b"first, ")
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 0)
            write_whole(path, lambda other: other.write(b"other"), shared=True)
        assert path.read_bytes() == b"other"
        file.write(b"whole")

    write_whole(path, first, shared=True)
    assert path.read_bytes() == b"first, whole"
    assert os.listdir(tmp_path) == ["shared"]


def test_what_several_runs_make_may_be_made_at_once(tmp_path, monkeypatch):
    save = torch.save

    def meanwhile(state, file):
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 0)
            patch.setattr(torch, "save", save)
            keep({"n": 2}, tmp_path / "features.pt")
        save(state, file)

    monkeypatch.setattr(torch, "save", meanwhile)
    keep({"n": 1}, tmp_path / "features.pt")
    assert kept(tmp_path / "features.pt") == {"n": 1}


def refuse(holder: str) -> None:
    raise UserError(f"held by {holder}")


def test_a_lock_names_who_holds_it(tmp_path):
    path = tmp_path / ".lock"
    with (
        locked(path, busy=refuse),
        pytest.raises(UserError, match=f"held by process {os.getpid()} on "),
        locked(path, busy=refuse),
    ):
        pass
    with locked(path, busy=refuse):
        pass


def test_a_lock_is_waited_for(tmp_path):
    path: Path = tmp_path / ".lock"
    taken, told, entered = threading.Event(), threading.Event(), threading.Event()
    early = []

    def hold() -> None:
        with locked(path, busy=refuse):
            taken.set()
            told.wait()
            # Time for one that does not wait to be found out.
            early.append(entered.wait(0.3))

    first = threading.Thread(target=hold)
    first.start()
    taken.wait()
    with locked(path, busy=lambda holder: told.set()):
        entered.set()
    first.join()
    assert early == [False]


def test_without_locks_everybody_is_let_in_and_told(tmp_path, monkeypatch, caplog):
    fcntl = pytest.importorskip("fcntl")

    def fail(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", fail)
        with locked(tmp_path / ".lock", busy=refuse), locked(tmp_path / ".lock", busy=refuse):
            assert "No locks available" in caplog.text
    with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG):
        patch.setitem(sys.modules, "fcntl", None)
        with locked(tmp_path / ".lock", busy=refuse), locked(tmp_path / ".lock", busy=refuse):
            assert "no file locks on this system" in caplog.text


def test_a_lock_that_a_killed_process_still_holds_for_a_moment_is_waited_for(tmp_path):
    held, holds = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(tmp_path / "lock", busy=pytest.fail):
            os.write(holds, b".")
            time.sleep(0.3)
            os._exit(0)
    os.read(held, 1)
    with locked(tmp_path / "lock", busy=pytest.fail):
        pass
    assert os.waitpid(child, 0)[1] == 0


def test_a_folder_is_made_or_told_by_name(tmp_path):
    assert made_folder(tmp_path / "a" / "b").is_dir()
    assert made_folder(str(tmp_path / "a")) == tmp_path / "a"
    (tmp_path / "file").touch()
    for bad in (tmp_path / "file", tmp_path / "file" / "in"):
        with pytest.raises(UserError, match=f"{bad} cannot be made"):
            made_folder(bad)
