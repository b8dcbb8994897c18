"""Runs that are killed at random moments end as if they never had been."""

import json
import subprocess
import sys

import pytest
from cli import ROOT


def report(kills: int, stops: int, seed: int, folder) -> dict:
    # In a process of its own: it forks, which a process that has started threads should not do.
    numbers = map(str, (kills, stops, seed))
    command = [sys.executable, str(ROOT / "tests" / "faults.py"), *numbers, folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_runs_end_as_if_never_killed_or_stopped(tmp_path):
    found = report(4, 4, 0, tmp_path)
    assert found["different"] == []
    assert (found["kills"], found["stops"]) == (4, 4)
    assert found["kills_at_a_look"] + found["stops_at_a_look"] > 0
    assert found["resumed"] > 0
    assert found["longest_answer_seconds"] < 20


@pytest.mark.slow
def test_two_hundred_kills_and_a_hundred_stops(tmp_path):
    found = report(200, 100, 1, tmp_path)
    print(found)
    assert found["different"] == []
    assert (found["kills"], found["stops"]) == (200, 100)
    assert found["inside_a_save"] > 0
