"""Going on with a run: exactly, only with its own config and data, and after a signal."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from cli import call, wandb_ids, wandb_sessions
from faults import ARGUMENTS, STEPS, composed, outcome, same, train
from omegaconf import OmegaConf
from torch.utils._pytree import tree_map_only

from ccdiff.data import Digits, Split
from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import load_checkpoint, save_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from ccdiff.runs.record import read_record
from ccdiff.settings import TrainerSettings
from ccdiff.system.stopping import EXIT_STATUS, Preempted, Stop
from ccdiff.train import assembly, resuming
from ccdiff.train import job as experiment
from ccdiff.training.nonfinite import Diverged
from ccdiff.training.saving import SaveCheckpoint
from ccdiff.training.step import Update

WANDB = tuple(argument for argument in ARGUMENTS if argument != "tracker=none")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    train(composed(), folder)
    return folder


def stopping_after(step: int, number: int):
    """A hook that has a signal sent while the step is taken."""

    def hook(self, state):
        if state.step == step:
            os.kill(os.getpid(), number)

    return hook


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_at_once_and_resuming_ends_the_same(whole, tmp_path, monkeypatch, number):
    # Neither a step that is logged nor one that is saved: sums of losses must survive.
    step = {signal.SIGTERM: 1, signal.SIGINT: 5, signal.SIGUSR1: 3}[number]
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(assembly.HeldOutLoss, "every", 1, raising=False)
        patch.setattr(assembly.HeldOutLoss, "__call__", stopping_after(step, number))
        patch.setattr(assembly.DrawGrids, "__call__", lambda self, state: None)
        with pytest.raises(Preempted, match=f"{number.name}: saved at step {step} of {STEPS}"):
            train(composed(), tmp_path, trainer__heldout_every=1)
    assert signal.getsignal(number) is before
    assert Run(tmp_path).latest_checkpoint() == Run(tmp_path).checkpoint(step)
    train(composed(), tmp_path)
    weights, rows = outcome(tmp_path)
    expected, all_rows = outcome(whole)
    assert same(weights, expected)
    # The hook that was replaced did not measure; all else is there, once.
    lost = [row for row in all_rows if "heldout/gap" in row and row["step"] <= step]
    assert rows == [row for row in all_rows if row not in lost]


def test_a_checkpoint_of_another_memory_layout_goes_on_the_same(whole, tmp_path, monkeypatch):
    written = SaveCheckpoint.write

    def write_and_stop(self, state, path):
        written(self, state, path)
        raise Preempted("the power is off")

    with monkeypatch.context() as patch:
        patch.setattr(SaveCheckpoint, "write", write_and_stop)
        with pytest.raises(Preempted):
            train(composed(), tmp_path)
    path = Run(tmp_path).latest_checkpoint()
    laid_out_anew = tree_map_only(torch.Tensor, torch.Tensor.contiguous, load_checkpoint(path))
    weight = laid_out_anew["denoiser"]["network.middle_out.block.conv1.weight"]
    assert composed().optimizer.fused
    assert not weight.is_contiguous(memory_format=torch.channels_last)
    save_checkpoint(laid_out_anew, path)
    train(composed(), tmp_path)
    assert same(outcome(tmp_path)[0], outcome(whole)[0])


def test_a_second_interrupt_leaves_at_once():
    stop = Stop()
    with stop.listening(), stop.deferring():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.reason == "received SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_time_budget_stops_and_saves(tmp_path, monkeypatch):
    now = 0.0  # Not that of the machine: added to some, 1800 s are less by rounding.
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def pass_time(self, state):
        nonlocal now
        now += 1800 * (state.step == 3)

    monkeypatch.setattr(assembly.HeldOutLoss, "__call__", pass_time)
    with pytest.raises(Preempted, match=r"max_time is used up \(1800 s\): saved at step 3"):
        train(composed(), tmp_path, trainer__max_time="0:30", trainer__heldout_every=1)
    assert load_checkpoint(Run(tmp_path).latest_checkpoint())["step"] == 3


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("11:30", 41400), ("0:00:07", 7)]
)
def test_times_are_hours_and_minutes_or_seconds(text, seconds):
    assert TrainerSettings(max_time=text).max_seconds == seconds


@pytest.mark.parametrize("text", ["0", "1:60", "1h", "-5", "1:2:3", "", "nan"])
def test_other_times_are_refused(text):
    with pytest.raises(UserError, match="max_time"):
        TrainerSettings(max_time=text)


def test_a_command_that_is_stopped_says_try_again(tmp_path, monkeypatch):
    def stopped(cfg, job):
        raise Preempted("received SIGTERM: saved at step 1 of 2")

    monkeypatch.setattr(experiment, "run_experiment", stopped)
    done = call("train.py", *ARGUMENTS, "hydra.run.dir=run", cwd=tmp_path)
    assert done.status == EXIT_STATUS == 75
    assert "saved at step 1" in done.printed
    assert f"python train.py resume={tmp_path / 'run'}" in done.printed
    assert "Traceback" not in done.printed


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(cfg, job):
        raise OSError(28, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr(experiment, "run_experiment", full)
    done = call("train.py", *ARGUMENTS, "hydra.run.dir=run", cwd=tmp_path)
    assert done.status == 1
    assert "make room" in done.printed
    assert "Traceback" not in done.printed


def test_an_earlier_checkpoint_takes_the_run_back(whole, tmp_path):
    """What came after it is set aside, so that a kill before the next save cannot mix them."""
    train(composed(), tmp_path, trainer__keep=9)
    run = Run(tmp_path)
    last = run.latest_checkpoint()
    train(composed(), tmp_path, resume=str(run.checkpoint(4)))
    assert same(outcome(tmp_path), outcome(whole))
    assert last.with_name(f"{last.name}.aside").exists()


def test_the_mean_of_losses_does_not_depend_on_where_a_run_ended(whole, tmp_path):
    train(composed(), tmp_path, trainer__steps=5)
    train(composed(), tmp_path)
    rows = [row for row in outcome(tmp_path)[1] if row["step"] != 5]
    assert rows == outcome(whole)[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model__channels": [16]}, "model.channels: [8] -> [16]"),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"trainer__batch_size": 32}, "trainer.batch_size: 16 -> 32"),
        ({"optimizer__weight_decay": 0.5}, "optimizer.weight_decay: 0.01 -> 0.5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_config_is_refused_with_the_difference(whole, change, told):
    with pytest.raises(UserError) as caught:
        train(composed(), whole, trainer__steps=9, **change)
    assert told in str(caught.value)
    assert "trainer.steps:" not in str(caught.value)
    assert "trainer.steps, " in str(caught.value)
    assert Run(whole).latest_checkpoint() == Run(whole).checkpoint(STEPS)


def test_a_finished_run_is_left_alone_or_told(whole):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    error = train(composed(), whole)
    assert error == read_metrics(Run(whole).metrics)[-1]["heldout/eps_mse"]
    with pytest.raises(UserError, match=f"taken all its {STEPS} steps; to go on"):
        train(composed(), whole, resume=str(whole))
    changed = [path.name for path in before if path.read_bytes() != before[path]]
    assert changed in ([], [".lock"])


def test_steps_rate_and_tracker_may_change(tmp_path, caplog):
    train(composed(), tmp_path, trainer__steps=2)
    train(composed(), tmp_path, trainer__steps=3, optimizer__lr=0.25, trainer__log_every=1)
    assert "optimizer.lr: 0.002 -> 0.25" in caplog.text
    rate = read_metrics(Run(tmp_path).metrics)[-1]
    assert (
        load_checkpoint(Run(tmp_path).checkpoint(3))["optimizer"]["param_groups"][0]["lr"] > 1e-3
    )
    assert rate["step"] == 3


def test_a_damaged_record_is_told_and_kept_and_the_run_goes_on(whole, tmp_path, caplog):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "record.json").write_text("[]")
    done = call("train.py", f"resume={run}", f"trainer.steps={STEPS + 1}", cwd=tmp_path)
    assert done.status == 0, done.printed
    assert caplog.text.count("record.json is damaged") == 1
    assert (run / "record.json.aside").read_text() == "[]"
    record = read_record(Run(run))
    assert record.title == f"digits unet, trainer.steps={STEPS + 1}"
    assert record.step == STEPS + 1


def test_what_may_change_exists():
    for key in resuming.MAY_CHANGE:
        if key.startswith(("trainer.", "optimizer.")) or "." not in key:
            group, _, name = key.rpartition(".")
            assert name in (OmegaConf.select(composed(), group) if group else composed())


def test_other_data_are_refused(tmp_path, monkeypatch):
    train(composed(), tmp_path, trainer__steps=2)
    read = Digits.read

    def changed(self):
        trained, heldout = read(self)
        images = trained.images.clone()
        images[7, 0, 3, 3] ^= 1
        return Split(images, trained.labels), heldout

    monkeypatch.setattr(Digits, "read", changed)
    with pytest.raises(UserError, match="not those that the run was trained on"):
        train(composed(), tmp_path)


def test_a_run_in_use_is_refused(tmp_path):
    with Run(tmp_path).alone(), pytest.raises(UserError, match="trained by another process"):
        train(composed(), tmp_path)


def test_groups_may_be_exchanged_on_the_command_line(tmp_path):
    call("train.py", *ARGUMENTS, "trainer.steps=2", "hydra.run.dir=run", cwd=tmp_path)
    more = ("trainer.steps=3", "tracker=none", "sampler=ddim", "sampler.steps=2")
    done = call("train.py", "resume=run", *more, cwd=tmp_path)
    assert done.status == 0, done.printed
    assert (
        "sampler._target_: ccdiff.diffusion.samplers.DDPM -> ccdiff.diffusion.samplers.DDIM"
        in done.printed
    )
    done = call("train.py", "resume=run", "trainer.steps=4", "schedule=linear", cwd=tmp_path)
    assert done.status == 1
    assert (
        "schedule._target_: ccdiff.diffusion.schedules.Cosine -> ccdiff.diffusion.schedules.Linear"
        in done.printed
    )


@pytest.mark.parametrize("step", [4, 5])
def test_divergence_rolls_back_and_goes_on_with_another_draw(
    whole, tmp_path, monkeypatch, caplog, step
):
    at = TrainedBadly(monkeypatch, step=step, draws={0, 1})
    train(composed(), tmp_path, trainer__on_nonfinite="rollback")
    assert at.seen == [0, 1]
    assert load_checkpoint(Run(tmp_path).latest_checkpoint())["draw"] == 2
    assert caplog.text.count("rolled back to step 4") == 2
    rows, expected = outcome(tmp_path)[1], outcome(whole)[1]
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    assert rows[:2] == expected[:2]
    assert rows[-1] != expected[-1]


def test_rolling_back_ends(tmp_path, monkeypatch):
    at = TrainedBadly(monkeypatch, step=5, draws=set(range(99)))
    with pytest.raises(UserError, match="rolled back 3 times"):
        train(composed(), tmp_path, trainer__on_nonfinite="rollback")
    assert at.seen == [0, 1, 2, 3]
    assert Run(tmp_path).latest_checkpoint() == Run(tmp_path).checkpoint(4)


class TrainedBadly:
    """Makes the gradient of a step infinite in one layer, for some draws."""

    def __init__(self, monkeypatch, *, step: int, draws: set[int]) -> None:
        self.seen: list[int] = []
        drawn = Update.batch

        def spoiled(update):
            stem = update.state.denoiser.network.stem.weight
            stem._backward_hooks = None
            if update.state.step == step and update.state.draw in draws:
                # Once more where the cause is looked for.
                self.seen += {update.state.draw} - set(self.seen)
                stem.register_hook(lambda grad: grad.index_fill(0, torch.tensor(0), torch.inf))
            return drawn(update)

        monkeypatch.setattr(Update, "batch", spoiled)


@pytest.mark.parametrize("step", [4, 5, STEPS - 1])
@pytest.mark.parametrize("fused", [True, False])
def test_divergence_is_diagnosed_and_kept_from_checkpoints(tmp_path, monkeypatch, step, fused):
    TrainedBadly(monkeypatch, step=step, draws={0})
    with pytest.raises(UserError) as caught:
        train(composed(), tmp_path, optimizer__fused=fused)
    told = str(caught.value)
    assert f"diverged at step {step}" in told
    assert "log-SNR" in told
    assert "that of stem.weight" in told
    assert read_metrics(Run(tmp_path).metrics)[-1]["step"] <= step
    assert Run(tmp_path).latest_checkpoint() == Run(tmp_path).checkpoint(step - step % 2)


def test_a_run_told_to_stop_saves_no_bad_step(whole, tmp_path, monkeypatch):
    taken = Update.__call__

    def stopped(update):
        if update.state.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return taken(update)

    with monkeypatch.context() as patch:
        TrainedBadly(patch, step=4, draws={0})
        patch.setattr(Update, "__call__", stopped)
        with pytest.raises(Diverged, match="diverged at step 4"):
            train(composed(), tmp_path)
        with pytest.raises(Preempted, match="saved at step 4"):
            train(composed(), tmp_path, trainer__on_nonfinite="rollback")
    assert Run(tmp_path).latest_checkpoint() == Run(tmp_path).checkpoint(4)
    train(composed(), tmp_path)
    assert same(outcome(tmp_path), outcome(whole))


def test_no_secret_is_kept(tmp_path, monkeypatch):
    secret = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("WANDB_API_KEY", secret)
    monkeypatch.setenv("MY_PASSWORD", secret)
    done = call("train.py", *WANDB, "trainer.steps=2", "hydra.run.dir=run", cwd=tmp_path)
    assert done.status == 0, done.printed
    assert secret not in done.printed
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("wandb" in path.parts for path in files)
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_wandb_is_told_of_preemption(tmp_path, monkeypatch):
    def stopped(self, state):
        raise Preempted("told to")

    monkeypatch.setattr(SaveCheckpoint, "__call__", stopped)
    done = call("train.py", *WANDB, "hydra.run.dir=run", cwd=tmp_path)
    assert done.status == EXIT_STATUS
    (records,) = wandb_sessions(tmp_path / "run")
    assert any("preempting" in record for record in records)
    (end,) = [record["exit"] for record in records if "exit" in record]
    assert end["exit_code"] != 0


def test_wandb_keeps_the_run_and_is_told_nothing_twice(tmp_path, monkeypatch):
    def crash(self, state):
        raise RuntimeError("in the middle of step 6, which is logged and not saved")

    with monkeypatch.context() as patch:
        patch.setattr(assembly.DrawGrids, "__call__", crash)
        assert call("train.py", *WANDB, "hydra.run.dir=run", cwd=tmp_path).status == 1
    assert Run(tmp_path / "run").latest_checkpoint() == Run(tmp_path / "run").checkpoint(4)
    done = call("train.py", *WANDB, "hydra.run.dir=run", cwd=tmp_path)
    assert done.status == 0, done.printed
    first, second = wandb_ids(tmp_path / "run")
    assert first == second
    told = [
        (record["history"]["step"]["num"], key)
        for records in wandb_sessions(tmp_path / "run")
        for record in records
        if "history" in record
        for key in record["history"]["item"]
    ]
    assert [step for step, key in told if key == "train/loss"] == [3, 6, 7]
    assert [step for step, key in told if key == "heldout/eps_mse"] == [4, 7]
