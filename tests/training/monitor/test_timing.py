"""The split of time: parts add up to the whole, whatever the device."""

import itertools

import pytest
import torch
from faults import STEPS, composed, train
from torch import nn

from ccdiff.config.build import instantiate
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from ccdiff.runs.record import read_record
from ccdiff.train import assembly
from ccdiff.training.monitor.timing import PARTS, StepTimer, clock_of


class Script:
    """A clock whose time is told; what happened longer than ``behind`` ago is known."""

    def __init__(self, behind: float = 0.0) -> None:
        self.now = 100.0
        self.behind = behind
        self.measured_early = False

    def mark(self) -> float:
        return self.now

    def passed(self, mark: float) -> bool:
        return mark <= self.now - self.behind

    def seconds(self, start: float, end: float) -> float:
        self.measured_early |= not self.passed(end)
        return end - start


LAPS = [
    [("data", 1.0), ("forward", 2.0), ("backward", 4.0), ("forward", 2.0), ("backward", 4.0)],
    [("optimizer", 0.5), ("ema", 0.25), ("hooks", 8.0)],
    [("data", 3.0), ("hooks", 0.125)],
]


def play(timer: StepTimer, clock: Script, laps: list[tuple[str, float]]) -> None:
    for part, seconds in laps:
        clock.now += seconds
        timer.lap(part)


@pytest.mark.parametrize("behind", [0.0, 5.0])
def test_parts_add_up_to_the_time_that_passed(behind):
    clock = Script(behind)
    timer = StepTimer(clock)
    clock.now += 1000  # not part of any step
    timer.start()
    started = clock.now
    for laps in LAPS:
        play(timer, clock, laps)
    took = clock.now - started
    clock.now += behind
    assert sum(timer.read().values()) == took == sum(timer.totals.values())
    expected = (4.0, 4.0, 8.0, 0.5, 0.25, 8.125)
    assert timer.totals == dict(zip(PARTS, expected, strict=True))


def test_readings_neither_lack_nor_repeat_time_and_wait_for_none_of_it():
    clock = Script(behind=5.0)
    timer = StepTimer(clock)
    readings = []
    for laps in LAPS:
        play(timer, clock, laps)
        readings.append(timer.read())
    clock.now += 5.0
    readings.append(timer.read())
    assert not clock.measured_early
    assert {part: sum(r[part] for r in readings) for part in PARTS} == timer.totals
    assert sum(timer.totals.values()) == sum(s for laps in LAPS for _, s in laps)
    assert not any(timer.read().values())


def test_the_summary_tells_shares():
    clock = Script()
    timer = StepTimer(clock)
    play(timer, clock, [("forward", 1.0), ("backward", 3.0)])
    assert timer.summary.startswith("data 0 %, forward 25 %, backward 75 %, optimizer 0 %")


def test_a_cpu_tells_the_time_at_once():
    timer = StepTimer(clock_of(torch.device("cpu")))
    for part in PARTS:
        timer.lap(part)
    assert all(timer.totals.values())


@pytest.mark.parametrize("option", ["standard", "karras"])
def test_averaging_waits_for_no_device(option):
    """On the meta device there is nothing to read, so whoever waits for a value is refused."""
    layer = nn.Linear(2, 2, device="meta")
    ema = instantiate(composed(f"ema={option}").ema)(layer)
    for _ in range(3):
        ema.update()
    assert ema.step.item() == 3
    ema.step = ema.step.to("meta")
    with pytest.raises(RuntimeError, match="meta"):
        ema.update()


def test_laps_of_a_run_are_where_its_parts_end(tmp_path, monkeypatch):
    """By a clock that goes on by a second at each look, a part lasts as long as it has laps."""
    ticks = itertools.count()
    clock = Script()
    clock.mark = lambda: next(ticks)
    clock.passed = lambda mark: True
    monkeypatch.setattr(assembly, "clock_of", lambda device: clock)
    train(composed(), tmp_path)
    first, *_ = (row for row in read_metrics(Run(tmp_path).metrics) if "train/loss" in row)
    step = {"data": 1, "forward": 2, "backward": 2, "optimizer": 1, "ema": 1}
    assert {part: first[f"time/{part}"] for part in step} == step
    # Before the hooks of the step that is logged.
    assert first["time/hooks"] == (first["step"] - 1) / first["step"]
    (session,) = read_record(Run(tmp_path)).sessions
    assert session.seconds == {part: STEPS * each for part, each in {**step, "hooks": 1}.items()}
