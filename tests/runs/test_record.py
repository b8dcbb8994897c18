"""The record of a run: what it says, and that it suffices to have the code back."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from ccdiff.runs import revision as revision_module
from ccdiff.runs.folder import Run
from ccdiff.runs.record import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    Record,
    Session,
    read_record,
    recording,
    set_aside_damaged,
)
from ccdiff.runs.revision import revision


def new_record() -> Record:
    return Record("hash", {"schedule": "cosine"}, seeds={"seed": 0})


def test_later_sessions_replace_overrides_by_key():
    record = new_record()
    record.sessions = [
        Session(["seed=1", "model.channels=[8,16]", "+trainer.steps=6"], ""),
        Session(["trainer.steps=9", "tracker=none"], ""),
    ]
    wanted = ["seed=1", "model.channels=[8,16]", "trainer.steps=9", "tracker=none"]
    assert record.overrides == wanted
    assert shlex.split(record.command) == ["python", "train.py", *wanted]


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, FINISHED), (MemoryError("full"), FAILED), (KeyboardInterrupt(), INTERRUPTED)],
)
def test_a_session_is_recorded_whatever_its_end(tmp_path, error, status):
    record = new_record()
    run = Run(tmp_path)

    def work() -> None:
        with recording(run, record, overrides=["seed=1"]):
            assert read_record(run).status == "running"
            record.step = 7
            if error is not None:
                raise error
            record.finish(0.5)

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    read = read_record(run)
    assert read == record
    assert read.status == status
    assert read.sessions[0].to_step == 7
    assert (read.problem is None) == (error is None)
    assert read.finished(steps=7) == (error is None)
    assert not read.finished(steps=8)


def test_a_record_cut_short_counts_as_none(tmp_path):
    record = new_record()
    record.write(Run(tmp_path))
    text = (tmp_path / "record.json").read_text()
    assert read_record(Run(tmp_path)) == record
    for length in range(0, len(text) - 2, 97):
        (tmp_path / "record.json").write_text(text[:length])
        assert read_record(Run(tmp_path)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"choices": ["cosine"]},
        {"choices": {"schedule": 7}},
        {"result": "0.1"},
        {"step": True},
        {"status": None},
        {"sessions": [7]},
        {"sessions": [{"overrides": "seed=1", "began": ""}]},
        {"sessions": [{"overrides": [], "began": "", "to_step": 0.5}]},
    ],
)
def test_a_record_with_values_of_other_types_is_told_and_counts_as_none(tmp_path, caplog, change):
    record = new_record()
    record.sessions = [Session([], "")]
    record.write(Run(tmp_path))
    path = tmp_path / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert read_record(Run(tmp_path)) is None
    assert read_record(Run(tmp_path)) is None
    assert caplog.text.count("record.json is damaged") == 1


def test_what_a_later_version_adds_to_a_record_is_passed_over(tmp_path):
    record = new_record()
    record.sessions = [Session(["seed=1"], "")]
    record.write(Run(tmp_path))
    path = tmp_path / "record.json"
    content = json.loads(path.read_text())
    content["sessions"][0]["energy"] = content["mood"] = 5
    path.write_text(json.dumps(content))
    assert read_record(Run(tmp_path)) == record


def test_a_damaged_record_is_kept_aside(tmp_path):
    set_aside_damaged(Run(tmp_path))
    new_record().write(Run(tmp_path))
    set_aside_damaged(Run(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    (tmp_path / "record.json").write_text("[]")
    set_aside_damaged(Run(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["record.json.aside"]


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def code(tmp_path, monkeypatch) -> Path:
    """A repository like this one, with one commit."""
    if shutil.which("git") is None:
        pytest.skip("no git")
    folder = tmp_path / "code"
    (folder / "ccdiff").mkdir(parents=True)
    (folder / "ccdiff/a.py").write_text("a = 1\n")
    (folder / ".gitignore").write_text("outputs/\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    monkeypatch.setattr(revision_module, "_ROOT", folder)
    return folder


def test_committed_code_needs_no_diff(code, tmp_path):
    commit, diff = revision(tmp_path, "x.diff")
    assert len(commit) == 40
    assert diff is None
    assert not (tmp_path / "x.diff").exists()


def test_commit_and_diff_bring_the_code_back(code, tmp_path):
    (code / "ccdiff/a.py").write_text("a = 2\n")
    (code / "ccdiff/new.py").write_text("b = 1\n")
    (code / "ccdiff/picture.bin").write_bytes(bytes(range(256)))
    (code / "secrets.txt").write_text("hush")
    commit, diff = revision(tmp_path, "x.diff")
    assert "hush" not in (tmp_path / diff).read_text(errors="replace")
    git(tmp_path, "clone", "-q", str(code), "copy")
    git(tmp_path / "copy", "checkout", "-q", commit)
    git(tmp_path / "copy", "apply", str(tmp_path / diff))
    for path in (code / "ccdiff").iterdir():
        assert (tmp_path / "copy/ccdiff" / path.name).read_bytes() == path.read_bytes()


def test_code_outside_of_git_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(revision_module, "_ROOT", tmp_path)
    assert revision(tmp_path, "x.diff") == (None, None)
