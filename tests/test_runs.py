"""Finding runs, and checkpoints that are whole or not there at all."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from ccdiff.errors import UserError
from ccdiff.runs import Run, find_checkpoint, run_of
from ccdiff.training.checkpoints import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from ccdiff.training.trackers import NoSession, RunLog, read_metrics

CHECKPOINT = Checkpoint(
    format=FORMAT,
    step=3,
    seconds=1.0,
    config="seed: 0",
    data="0123",
    denoiser={"w": torch.ones(2)},
    ema={"ema_model.w": torch.ones(2)},
    optimizer={},
    rng={"cpu": torch.get_rng_state(), "cuda": []},
    draw=0,
    loss_sum=torch.tensor(0.5),
    loss_count=1,
    tracker_id=None,
)


def made(path: Path, *, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_latest_is_the_newest_of_outputs_and_multirun(tmp_path):
    made(tmp_path / "outputs/day/one/checkpoints/step_00000009.pt", age=50)
    newest = made(tmp_path / "multirun/day/two/0/checkpoints/step_00000003.pt", age=10)
    assert find_checkpoint("latest", root=tmp_path) == newest


def test_a_directory_means_its_last_step(tmp_path):
    for step in (3, 100, 20):
        made(Run(tmp_path).checkpoint(step), age=step)
    found = find_checkpoint(str(tmp_path))
    assert found == Run(tmp_path).checkpoint(100)
    assert run_of(found).path == tmp_path


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


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "step.pt"
    save_checkpoint(CHECKPOINT, path)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint({**CHECKPOINT, "step": 4, "bad": lambda: None}, path)
    assert load_checkpoint(path)["step"] == 3
    assert Run(tmp_path).checkpoints() == []


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
