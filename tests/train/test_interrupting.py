"""A signal is heeded in the midst of what a run looks at, which is taken up where it goes on."""

import os
import signal
from pathlib import Path

import pytest
import torch
from faults import STEPS, composed, outcome, same, train

from ccdiff.metrics import classifier
from ccdiff.runs.checkpoints import load_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.record import read_record
from ccdiff.system.stopping import Interrupted, Preempted, Stop, StoppedAtOnce, heed
from ccdiff.train import assembly
from ccdiff.training import loop

WATCHED = ("evaluate.every=4", "evaluate.images=20", "evaluate.steps=2")


class Occasions:
    """Counts the occasions to stop, and has a signal come at one of them."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        heed()


def watched(folder: Path, monkeypatch, *, at: int = 0) -> Occasions:
    """Trains and judges a run in ``folder``, with a classifier of its own."""
    occasions = Occasions(at)
    with monkeypatch.context() as patch:
        patch.setattr(classifier, "_IMAGES_SEEN", 512)
        patch.setattr(classifier, "heed", occasions)
        patch.setattr(loop, "heed", occasions)
        train(composed(*WATCHED, f"evaluate.cache={folder / 'cache'}"), folder / "run")
    return occasions


def files(folder: Path) -> dict[str, bytes]:
    """Every picture of a run."""
    return {path.name: path.read_bytes() for path in (folder / "run/samples").iterdir()}


def ended(folder: Path) -> tuple:
    """All that must not depend on interruptions."""
    best = load_checkpoint(Run(folder / "run").best_checkpoint)
    return outcome(folder / "run"), best["ema"], best["step"], best["pending"], files(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupts, and how many occasions to stop there were."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        occasions = watched(folder, patch)
    return ended(folder), occasions.count


@pytest.mark.parametrize("share", [0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 0.999])
def test_wherever_a_signal_comes_the_run_ends_the_same(whole, tmp_path, monkeypatch, share):
    expected, count = whole
    with pytest.raises(Preempted, match=r"received SIGTERM: saved at step [467]; still to do"):
        watched(tmp_path, monkeypatch, at=1 + int(share * (count - 1)))
    run = Run(tmp_path / "run")
    saved = load_checkpoint(run.latest_checkpoint())
    assert saved["pending"]
    assert read_record(run).status == "interrupted"
    watched(tmp_path, monkeypatch)
    assert same(ended(tmp_path), expected)
    assert load_checkpoint(run.latest_checkpoint())["pending"] == []


def test_it_may_come_again_and_the_power_go_off(whole, tmp_path, monkeypatch):
    """Whatever was recorded of the step at hand is neither lacking nor there twice."""
    expected, count = whole
    for at in (count // 4, 3, 2):
        with pytest.raises(Preempted):
            watched(tmp_path, monkeypatch, at=at)

    def power_off(self, state):
        raise SystemExit

    with monkeypatch.context() as patch:
        # What is still to do at the step is done by then, but not saved.
        patch.setattr(assembly.SaveCheckpoint, "__call__", power_off)
        with pytest.raises(SystemExit):
            watched(tmp_path, monkeypatch)
    watched(tmp_path, monkeypatch)
    assert same(ended(tmp_path), expected)


def test_time_is_up_in_the_midst_of_drawing(tmp_path, monkeypatch):
    """The last look is taken up where the run has taken all its steps."""
    drawn = assembly.DrawGrids.__call__
    with monkeypatch.context() as patch:

        def late(self, state):
            if state.step == STEPS:
                patch.setattr(Stop, "reason", "trainer.max_time is used up")
            drawn(self, state)

        patch.setattr(assembly.DrawGrids, "__call__", late)
        with pytest.raises(Preempted, match=f"used up: saved at step {STEPS}; still to do there"):
            train(composed(), tmp_path)
    assert not (tmp_path / "samples" / "denoising.gif").exists()
    train(composed(), tmp_path)
    assert (tmp_path / "samples" / "denoising.gif").exists()
    assert read_record(Run(tmp_path)).status == "finished"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_before_the_first_step_there_is_nothing_to_wait_for(tmp_path, monkeypatch, number):
    def load(self):
        os.kill(os.getpid(), number)
        raise AssertionError("went on")

    monkeypatch.setattr("ccdiff.data.Digits.load", load)
    before = signal.getsignal(number)
    with pytest.raises(StoppedAtOnce, match=f"received {number.name} while no step was taken"):
        train(composed(), tmp_path)
    assert signal.getsignal(number) is before
    assert not (tmp_path / "record.json").exists()


def test_an_error_that_a_signal_led_to_is_taken_for_the_signal():
    def signalled() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except StoppedAtOnce as stopped:
            raise KeyError("left in disorder") from stopped

    with pytest.raises(StoppedAtOnce, match="SIGTERM"), Stop().listening():
        signalled()


def test_an_error_without_a_signal_stays_what_it_is():
    with pytest.raises(KeyError, match="one's own"), Stop().listening():
        raise KeyError("one's own")


def test_a_forked_process_does_not_save():
    stop = Stop()
    with stop.listening(), stop.deferring():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(3)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
        assert stop.reason is None


def test_nobody_heeds_but_where_it_is_asked_for():
    stop = Stop(max_seconds=0)
    heed()
    with stop.heeded(), pytest.raises(Interrupted, match="max_time"):
        heed()
    heed()
    assert not issubclass(Interrupted, Exception)
    assert torch.is_grad_enabled()
