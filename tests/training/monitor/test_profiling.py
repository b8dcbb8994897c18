"""Profiling a few steps: a trace and a table in the run folder, of those steps alone."""

import gzip
import json
import logging

import pytest
import torch
from faults import composed, outcome, same, train
from omegaconf import OmegaConf

from ccdiff.runs.folder import Run
from ccdiff.settings import PROFILE_AFTER
from ccdiff.training.monitor import profiling
from ccdiff.training.monitor.profiling import Profile

CPU = torch.device("cpu")


def names(trace: str) -> list[str]:
    return [event.get("name", "") for event in json.loads(trace)["traceEvents"]]


def take(profile: Profile, steps: int) -> None:
    for _ in range(steps):
        torch.ones(3).cumsum(0)
        profile()


def test_a_run_profiles_as_many_steps_as_asked_and_is_the_same(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(profiling, "PROFILE_AFTER", 2)
    monkeypatch.setattr("ccdiff.settings.PROFILE_AFTER", 2)
    train(composed(), tmp_path / "plain")
    with caplog.at_level(logging.INFO, "ccdiff"):
        train(composed(), tmp_path / "run", trainer__profile=3)
    assert "profiled 3 steps: table.txt and trace.json" in caplog.text
    seen = names((tmp_path / "run/profile/trace.json").read_text())
    assert sum(name.startswith("Optimizer.step") for name in seen) == 3
    # Forward and backward, in two parts a step.
    assert "aten::convolution_backward" in seen
    table = (tmp_path / "run/profile/table.txt").read_text()
    assert "aten::" in table
    assert same(outcome(tmp_path / "run"), outcome(tmp_path / "plain"))
    # Who goes on from the saved config did not ask.
    assert OmegaConf.load(Run(tmp_path / "run").config).trainer.profile == 0


def test_a_large_trace_is_compressed(tmp_path, monkeypatch):
    monkeypatch.setattr(profiling, "_LARGE", 100)
    profile = Profile(1, device=CPU, folder=tmp_path / "profile")
    take(profile, PROFILE_AFTER + 1)
    assert {path.name for path in profile.folder.iterdir()} == {"trace.json.gz", "table.txt"}
    with gzip.open(profile.folder / "trace.json.gz", "rt") as file:
        assert names(file.read()).count("aten::cumsum") == 1


@pytest.mark.parametrize("steps", [PROFILE_AFTER, PROFILE_AFTER + 2])
def test_what_was_cut_short_is_written(tmp_path, steps):
    profile = Profile(5, device=CPU, folder=tmp_path / "profile")
    take(profile, steps)
    assert not profile.folder.exists()
    profile.close()
    seen = names((profile.folder / "trace.json").read_text())
    assert seen.count("aten::cumsum") == steps - PROFILE_AFTER
    profile.close()


def test_too_few_steps_to_profile_are_warned_of(tmp_path, caplog):
    for steps, warned in ((0, False), (5, True)):
        profile = Profile(steps, device=CPU, folder=tmp_path / "profile")
        take(profile, 3)
        profile.close()
        assert ("only 3 steps" in caplog.text) == warned
    assert not profile.folder.exists()
