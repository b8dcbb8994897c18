"""Finding runs, their lock, and their record."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli import ROOT

from ccdiff.errors import UserError
from ccdiff.runs.folder import Run, find_checkpoint, run_of
from ccdiff.runs.log import RunLog, read_metrics
from ccdiff.runs.tracker import NoSession


def made(path: Path, *, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_latest_is_the_newest_of_outputs_and_multirun(tmp_path):
    made(tmp_path / "outputs/day/one/checkpoints/step_00000009.pt", age=50)
    newest = made(tmp_path / "multirun/day/two/0/checkpoints/step_00000003.pt", age=10)
    assert find_checkpoint("latest", root=tmp_path) == newest


@pytest.mark.parametrize("place", ["mine", "runs/mine", "runs/2026/mine", "outputs/a/b/c/d/e"])
def test_latest_is_found_wherever_a_run_was_put(tmp_path, place):
    path = Run(tmp_path / place).checkpoint(3)
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_checkpoint("latest", root=tmp_path) == path


@pytest.mark.parametrize("place", ["a/b/c/mine", ".hidden/mine"])
def test_where_latest_does_not_look_is_told(tmp_path, place):
    path = Run(tmp_path / place).checkpoint(3)
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(UserError, match=rf"of {tmp_path}, nor up to 3 folders deep.*name the f"):
        find_checkpoint("latest", root=tmp_path)


def test_a_checkpoint_that_training_removes_meanwhile_is_not_the_latest(tmp_path, monkeypatch):
    gone, there = (Run(tmp_path / "outputs/day/one").checkpoint(step) for step in (3, 6))
    made(there, age=1)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [gone, there])
    assert find_checkpoint("latest", root=tmp_path) == there


def test_a_directory_means_its_last_step(tmp_path):
    for step in (3, 100, 20):
        made(Run(tmp_path).checkpoint(step), age=step)
    found = find_checkpoint(str(tmp_path))
    assert found == Run(tmp_path).checkpoint(100)
    assert run_of(found).path == tmp_path
    assert find_checkpoint(str(tmp_path / "checkpoints")) == found


def test_near_names_are_suggested(tmp_path):
    (tmp_path / "experiment_one").mkdir()
    with pytest.raises(UserError, match=r"did you mean .*experiment_one"):
        find_checkpoint(str(tmp_path / "experiment_on"))


def test_a_sweep_is_not_a_run(tmp_path):
    for job in ("0", "1"):
        (tmp_path / job).mkdir()
        (tmp_path / job / "config.yaml").write_text("")
    with pytest.raises(UserError, match="sweep of 2 runs"):
        find_checkpoint(str(tmp_path))


def test_metrics_after_the_checkpoint_are_taken_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = RunLog(path, NoSession())
    for step in (1, 2, 3):
        log.metrics({"loss": 1.0 / step}, step=step)
    with path.open("a") as file:
        file.write('{"step": 4, "lo')  # a crash in the middle of a line
    log = RunLog(path, NoSession(), step=2)
    log.metrics({"loss": 0.0}, step=3)
    assert [(row["step"], row["loss"]) for row in read_metrics(path)] == [(1, 1), (2, 0.5), (3, 0)]


class Recorder(NoSession):
    """Remembers what a tracker is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []

    def metrics(self, values, *, step):
        self.told.append((step, dict(values)))

    def image(self, key, path, *, step):
        self.told.append((step, {key: 0.0}))


def test_a_tracker_is_not_told_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = RunLog(path, NoSession())
    for step in (2, 4, 6):
        log.metrics({"loss": float(step)}, step=step)
    session = Recorder()
    log = RunLog(path, session, step=2)
    log.metrics({"loss": 4.0, "new": 1.0}, step=4)
    log.image("grid", tmp_path / "4.png", step=4)
    log.metrics({"loss": 6.0}, step=6)
    log.image("grid", tmp_path / "6.png", step=6)
    log.metrics({"loss": 8.0}, step=8)
    assert session.told == [(4, {"new": 1.0}), (6, {"grid": 0.0}), (8, {"loss": 8.0})]
    assert [row["step"] for row in read_metrics(path)] == [2, 4, 6, 8]


def test_a_second_process_is_refused_and_a_dead_one_is_not_waited_for(tmp_path):
    run = Run(tmp_path)
    code = (
        "import pathlib, sys, time; from ccdiff.runs.folder import Run\n"
        "with Run(pathlib.Path(sys.argv[1])).alone():\n"
        "    print('locked', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        try:
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(UserError, match=f"process {other.pid} on"), run.alone():
                pass
        finally:
            other.kill()
    with run.alone():
        pass


def test_later_checkpoints_are_set_aside(tmp_path):
    run = Run(tmp_path)
    for step in (3, 6, 9):
        made(run.checkpoint(step), age=0)
    made(run.path / "checkpoints/.step_00000012.pt.partial", age=0)
    run.set_aside_after(6)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step_00000003.pt",
        "step_00000006.pt",
        "step_00000009.pt.aside",
    ]
    assert run.latest_checkpoint() == run.checkpoint(6)
