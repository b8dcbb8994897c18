"""What a folder from elsewhere says of trackers and of Hydra is not heeded."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cli import ROOT, call, succeed

from ccdiff.runs.folder import Run
from ccdiff.runs.origin import is_sealed, seal
from ccdiff.runs.record import read_record
from ccdiff.trained.run import track

MADE = ROOT / "tests/runs/version_0_1_0/run"
THEIRS = {
    "_target_": "ccdiff.runs.tracker.WandbTracker",
    "project": "theirs",
    "entity": "them",
    "mode": "offline",
}


@pytest.fixture
def run(tmp_path) -> Run:
    """A run that says it was tracked in a project of somebody else."""
    folder = Path(shutil.copytree(MADE, tmp_path / "run"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"tracker": THEIRS}))
    return Run(folder)


def test_a_seal_is_of_a_content_and_of_a_user(monkeypatch, tmp_path):
    content = [{"b": 1, "a": None}, "x"]
    mine = seal(content)
    assert is_sealed([{"a": None, "b": 1}, "x"], mine)
    assert not is_sealed([{"a": None, "b": 2}, "x"], mine)
    for other in (None, "", 3, "ß", mine[:-1]):
        assert not is_sealed(content, other)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    assert not is_sealed(content, mine)
    key = tmp_path / "another user/ccdiff/key"
    assert key.stat().st_mode & 0o077 == 0
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert seal(content) is None
    assert not is_sealed(content, None)


class Opened:
    """As much of an opened run as is looked at."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.checkpoint = {"tracker_id": "abc", "step": 6}
        self.config = yaml.safe_load(run.config.read_text())


def test_results_go_to_no_project_that_a_file_from_elsewhere_names(run, monkeypatch):
    sent = []
    monkeypatch.setattr("ccdiff.trained.run.instantiate", sent.append)
    monkeypatch.setattr("ccdiff.trained.run.plain", lambda config: config)
    record = read_record(run)
    for forged in (
        record,
        replace(record, tracker_id="abc"),
        replace(record, tracker_id="abc", tracker_seal=seal([THEIRS | {"project": "x"}, "abc"])),
    ):
        forged.write(run)
        track(Opened(run), {"a": 1.0}, images={})
    assert sent == []
    record.tracked(THEIRS, "abc")
    record.write(run)
    opened = Opened(run)
    opened.config = type("Config", (dict,), {"tracker": THEIRS})(opened.config)
    with pytest.raises(AttributeError):  # What stands for a tracker has no session.
        track(opened, {"a": 1.0}, images={})
    assert sent == [THEIRS]


def test_going_on_tracks_where_the_user_tracks(run):
    def tracker(*more: str) -> dict:
        shown = succeed("train.py", "resume=run", *more, "--cfg", "job", cwd=run.path.parent)
        return yaml.safe_load(shown.printed)["tracker"]

    assert tracker()["project"] == "ccdiff"
    assert tracker()["entity"] is None
    assert tracker("tracker.project=mine")["project"] == "mine"
    record = read_record(run)
    record.tracked(THEIRS, "abc")
    record.write(run)
    assert tracker() == THEIRS


@pytest.mark.parametrize(
    "argument",
    ["--config-dir=x", "hydra/launcher=mine", "hydra.job_logging.root.level=9", "+hydra.x=1"],
)
def test_a_sweep_from_elsewhere_sets_nothing_of_hydra(tmp_path, argument):
    folder = tmp_path / "sweep"
    folder.mkdir()
    arguments = ["seed=0,1", "hydra.sweep.dir=sweep", argument]
    file = folder / "sweep.json"
    file.write_text(json.dumps({"arguments": arguments, "seal": "0" * 64}))
    done = call("train.py", "resume=sweep", cwd=tmp_path)
    assert done.status == 1
    assert argument in done.printed
    assert "was not written by you" in done.printed


@pytest.mark.parametrize("text", ["", "[]", "{", '{"arguments": 3}', '{"arguments": [3]}'])
def test_a_damaged_sweep_is_told(tmp_path, text):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/sweep.json").write_text(text)
    done = call("train.py", "resume=sweep", cwd=tmp_path)
    assert done.status == 1
    assert "sweep.json" in done.printed
    assert "Traceback" not in done.printed
