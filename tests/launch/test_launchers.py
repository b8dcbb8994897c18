"""Searches and launchers, which are extras: ``uv run --all-extras pytest -m slow``.

They run in processes of their own, as do the jobs that they launch.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from cli import ROOT, TINY
from faults import TIMINGS

from ccdiff.runs.checkpoints import load_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.record import FINISHED, read_record

pytestmark = pytest.mark.slow

ARGUMENTS = (*(key for key in TINY if "trainer.steps" not in key), "tracker=none")
SHORT = "trainer.steps=6"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *arguments, *ARGUMENTS]


def launch(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        command(*arguments), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def finished(sweep: Path) -> dict[str, float]:
    records = {path.name: read_record(Run(path)) for path in sorted(sweep.iterdir())}
    known = {name: record for name, record in records.items() if record is not None}
    assert all(record.status == FINISHED for record in known.values())
    return {name: record.result for name, record in known.items()}


def test_optuna_minimises_and_remembers(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ("sweep=search", "hydra.sweeper.n_trials=10", "hydra.sweep.dir=sweep", SHORT)
    launch(*search, cwd=tmp_path)
    results = finished(tmp_path / "sweep")
    assert len(results) == 10
    best = yaml.safe_load((tmp_path / "sweep/optimization_results.yaml").read_text())
    assert best["best_value"] == min(results.values())
    # Seeded, and finished trials answer at once: the same search again trains nothing.
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    launch(*search, cwd=tmp_path)
    assert finished(tmp_path / "sweep") == results
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")} == stamps


@pytest.mark.parametrize(
    ("plugin", "arguments"),
    [
        ("hydra_submitit_launcher", ("hydra/launcher=submitit_local",)),
        ("hydra_joblib_launcher", ("hydra/launcher=gpus",)),
    ],
)
def test_launchers_name_jobs_alike_and_go_on(tmp_path, plugin, arguments):
    pytest.importorskip(f"hydra_plugins.{plugin}")
    sweep = ("-m", "seed=0,1", "hydra.sweep.dir=sweep", SHORT)
    launch(*sweep, *arguments, cwd=tmp_path)
    results = finished(tmp_path / "sweep")
    assert set(results) == {"seed-0", "seed-1"}
    printed = launch(*sweep, cwd=tmp_path)
    assert printed.count("finished earlier") == 2
    assert finished(tmp_path / "sweep") == results


def test_slurm_asks_for_what_the_config_says(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    asked = command("--cfg", "hydra", "--package", "hydra.launcher", "hydra/launcher=slurm")
    printed = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True)
    launcher = yaml.safe_load(printed.stdout)
    assert launcher["_target_"].endswith("SlurmLauncher")
    assert launcher["gpus_per_node"] == 1
    assert launcher["max_num_timeout"] > 0
    assert launcher["additional_parameters"] == {"requeue": True}


def test_a_killed_sweep_ends_as_if_never_killed(tmp_path):
    sweep = ("-m", "seed=0,1,2", "trainer.steps=40", "trainer.keep=50")
    # With as many threads as the others, since sums round otherwise with more.
    arguments = command(*sweep, "hydra.sweep.dir=part")
    process = subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRONMENT)
    second = Run(tmp_path / "part/seed-1")
    while not second.checkpoint(9).exists():
        assert process.poll() is None, "the sweep ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read_record(second).status == "running"
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "part").rglob("*.pt")}
    launch(*sweep, "hydra.sweep.dir=part", cwd=tmp_path)
    launch(*sweep, "hydra.sweep.dir=whole", cwd=tmp_path)
    assert finished(tmp_path / "part") == finished(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    for job in ("seed-0", "seed-1", "seed-2"):
        parts, whole = (tmp_path / name / job for name in ("part", "whole"))
        assert _figures(parts) == _figures(whole)
        a, b = (load_checkpoint(Run(path).latest_checkpoint())["ema"] for path in (parts, whole))
        assert all(torch.equal(a[key], value) for key, value in b.items())


def _figures(job: Path) -> list[dict]:
    """Rows without what depends on the clock."""
    rows = [json.loads(line) for line in (job / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]
