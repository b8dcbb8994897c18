"""Runs that are killed at random moments end as if they never had been."""

import json
import subprocess
import sys

import pytest
from cli import ROOT


def report(kills: int, seed: int, folder) -> dict:
    # In a process of its own: it forks, which a process that has started threads should not do.
    command = [sys.executable, str(ROOT / "tests" / "faults.py"), str(kills), str(seed), folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_killed_runs_end_as_if_never_killed(tmp_path):
    found = report(5, 13, tmp_path)
    assert found["different"] == []
    assert found["kills"] >= 5
    assert found["inside_a_save"] > 0
    assert found["resumed"] > 0


@pytest.mark.slow
def test_two_hundred_kills(tmp_path):
    found = report(200, 1, tmp_path)
    print(found)
    assert found["different"] == []
    assert found["kills"] >= 200
