"""What version 0.1.0 trained goes on working: its run is resumed, sampled, judged, handed on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cli import call, succeed

import ccdiff
from ccdiff.metrics.classifier import Classifier

MADE = Path(__file__).parents[1] / "runs" / "version_0_1_0"
"""A run of a tiny network on digits, its export, and what ``sample.py`` of that time drew."""


@pytest.fixture
def run(tmp_path) -> Path:
    return Path(shutil.copytree(MADE / "run", tmp_path / "run"))


def close(drawn: torch.Tensor | np.ndarray, expected: np.ndarray) -> bool:
    """Up to the last bit of a pixel, which depends on the processor."""
    return np.abs(np.asarray(drawn).astype(int) - expected).max() <= 1


def test_it_is_sampled_as_it_was_then(run):
    succeed("sample.py", "run=run", "out=drawn", "num_per_label=1", "seed=3", cwd=run.parent)
    before, now = np.load(MADE / "drawn.npz"), np.load(run.parent / "drawn/samples.npz")
    assert set(before) <= set(now)
    assert close(now["images"], before["images"])


@pytest.mark.parametrize("part", ["run", "exported", "run/checkpoints/step_00000006.pt"])
def test_it_is_opened_from_python(part):
    drawn = ccdiff.load(MADE / part, device="cpu").sample(num_per_label=1, seed=3)
    assert close(np.asarray(drawn), np.load(MADE / "drawn.npz")["images"])


def test_it_goes_on_with_the_names_of_today(run):
    more = ("resume=run", "trainer.steps=8", "schedule=cosine")
    done = succeed("train.py", *more, cwd=run.parent)
    assert "going on from step 6" in done.printed
    told = [line for line in done.printed.splitlines() if "changed since" in line]
    assert [line.rpartition(": ")[2] for line in told] == ["6 -> 8"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["schedule"]["_target_"] == "ccdiff.diffusion.schedules.Cosine"
    refused = call("train.py", *more, "trainer.steps=9", "schedule=linear", cwd=run.parent)
    assert refused.status == 1
    assert "another config" in refused.printed


DEFAULTS = ["sampler/grid=karras", "optimizer.lr=1e-3", "trainer.warmup=100", "trainer.cooldown=0"]
"""What was the default then and is not today."""


def test_a_sweep_finds_its_job_again(run):
    overrides = yaml.safe_load((run / ".hydra/overrides.yaml").read_text())
    job = run.parent / "sweep" / "job"
    shutil.copytree(run, job)
    sweep = ("-m", *overrides, *DEFAULTS, "hydra.sweep.dir=sweep")
    done = succeed("train.py", *sweep, cwd=run.parent)
    assert "finished earlier" in done.printed
    other = call("train.py", *sweep, "trainer.batch_size=8", cwd=run.parent)
    assert other.status == 1
    assert "trainer.batch_size=8 (there 16)" in other.printed


def test_a_setting_that_came_later_counts_as_its_default(run):
    overrides = yaml.safe_load((run / ".hydra/overrides.yaml").read_text())
    job = Path(shutil.copytree(run, run.parent / "sweep" / "job"))
    for file in ("config.yaml", "record.json"):
        # As if the network's dropout had not been there.
        text = (job / file).read_text().replace("  dropout: 0.0\n", "")
        (job / file).write_text(text.replace("60622c242b2b41e6", "of another version"))
    assert "dropout" not in (job / "config.yaml").read_text()
    sweep = ("-m", *overrides, *DEFAULTS, "hydra.sweep.dir=sweep")
    assert "finished earlier" in succeed("train.py", *sweep, cwd=run.parent).printed
    other = call("train.py", *sweep, "model.dropout=0.1", cwd=run.parent)
    assert other.status == 1
    assert "model.dropout=0.1 (there 0.0)" in other.printed


def test_it_is_judged_compared_and_handed_on(run, monkeypatch):
    def untrained(train, *, num_labels: int, flip: bool, device: object) -> Classifier:
        return Classifier((1, 8, 8), num_labels=num_labels).eval()

    monkeypatch.setattr("ccdiff.metrics.classifier.train_classifier", untrained)
    few = ("n=20", "heldout_images=32", "likelihood_images=0", "sampler.steps=1", "device=cpu")
    succeed("ccdiff.evaluate", "run=run", "name=page", *few, cwd=run.parent)
    assert (run / "evaluation/page/index.html").exists()
    succeed("ccdiff.export", "run=run", "out=again", cwd=run.parent)
    before, now = (
        yaml.safe_load((folder / "config.yaml").read_text())
        for folder in (MADE / "exported", run.parent / "again")
    )
    assert before["data"] == now["data"]
    assert now["guidance"]["_target_"] == "ccdiff.diffusion.guidance.CFG"
    # With the same settings under today's names, nothing differs but the seed.
    again = run.with_name("later")
    shutil.copytree(run, again)
    (again / "config.yaml").write_text(
        (run.parent / "again/config.yaml").read_text().replace("seed: 0", "seed: 1")
    )
    done = succeed("ccdiff.compare", "run", "later", "--out", "page", cwd=run.parent)
    header = (run.parent / "page/compare.csv").read_text().splitlines()[0]
    assert "_target_" not in header
    assert "2 runs" in done.printed
