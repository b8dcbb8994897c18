"""Samples looked at during training: what is logged, the best checkpoint, the warning."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli import TINY, call, succeed
from PIL import Image

from ccdiff.config.build import build_data
from ccdiff.config.options import compose
from ccdiff.diffusion.conditioning import OneHot
from ccdiff.generation.pipeline import Pipeline
from ccdiff.metrics.classifier import Classifier
from ccdiff.metrics.extractors import ClassifierSource, Material
from ccdiff.runs.checkpoints import load_checkpoint
from ccdiff.train.assembly import Training
from ccdiff.training.monitor.hooks import DrawGrids
from ccdiff.training.monitor.quality import WatchQuality

LOOK = ("evaluate.every=3", "evaluate.images=20", "evaluate.steps=2", "tracker=none")
ARGUMENTS = (*(a for a in TINY if not a.startswith("evaluate")), *LOOK)


def untrained(train, *, num_labels: int, flip: bool, device: object) -> Classifier:
    """Stands in for the training of the classifier, which has its own tests."""
    torch.manual_seed(0)
    return Classifier((1, 8, 8), num_labels=num_labels).eval()


@pytest.fixture(autouse=True, scope="module")
def _no_training() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ccdiff.metrics.classifier.train_classifier", untrained)
        yield


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def looks(run: Path) -> dict[int, dict]:
    key = "evaluate/fd_classifier_to_heldout"
    return {row["step"]: row for row in rows(run) if key in row}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    succeed("train.py", *ARGUMENTS, "hydra.run.dir=run", cwd=folder)
    return folder / "run"


def test_figures_are_logged_and_the_best_is_kept(run):
    found = looks(run)
    assert list(found) == [3, 6]
    for row in found.values():
        assert 0 <= row["evaluate/label_agreement_classifier"] <= 1
        assert "evaluate/label_gain_wrong_label" in row
        assert 0 <= row["evaluate/copying_classifier"] <= 1
        assert row["evaluate/copies"] == 0 <= row["evaluate/copies_heldout"] < 0.1
    best = min(found, key=lambda step: found[step]["evaluate/fd_classifier_to_heldout"])
    assert load_checkpoint(run / "checkpoints" / "best.pt")["step"] == best
    succeed("sample.py", f"run={run}/checkpoints/best.pt", "sampler.steps=2", cwd=run.parent)


def test_training_is_the_same_with_and_without_a_look(run, tmp_path):
    without = (*TINY, "tracker=none", "hydra.run.dir=plain")
    succeed("train.py", *without, cwd=tmp_path)
    ours, plain = (
        load_checkpoint(path / "checkpoints" / "step_00000006.pt")
        for path in (run, tmp_path / "plain")
    )
    assert all(torch.equal(ours["denoiser"][k], v) for k, v in plain["denoiser"].items())
    assert torch.equal(ours["rng"]["cpu"], plain["rng"]["cpu"])


def test_a_resumed_run_remembers_its_best(run, monkeypatch, tmp_path):
    best = min(row["evaluate/fd_classifier_to_heldout"] for row in looks(run).values())
    seen = []
    real = WatchQuality._best

    def noted(self, *, before):
        seen.append(real(self, before=before))
        return 0.0

    monkeypatch.setattr(WatchQuality, "_best", noted)
    before = (run / "checkpoints" / "best.pt").read_bytes()
    succeed("train.py", f"resume={run}", "trainer.steps=9", cwd=tmp_path)
    assert seen == [best]
    assert (run / "checkpoints" / "best.pt").read_bytes() == before


def test_a_label_blind_model_is_flagged_at_the_first_look(tmp_path, monkeypatch):
    plain = OneHot.forward
    monkeypatch.setattr(OneHot, "forward", lambda self, y, drop=None: plain(self, 0 * y, None))
    done = succeed("train.py", *ARGUMENTS, "trainer.steps=3", "hydra.run.dir=run", cwd=tmp_path)
    assert "THE MODEL IGNORES ITS LABEL" in done.printed
    assert looks(tmp_path / "run")[3]["evaluate/label_certainty"] == 0


@pytest.mark.slow
def test_a_model_that_uses_its_label_is_not_flagged(tmp_path):
    small = ("model.channels=[16,32]", "model.bottleneck=32")
    steps = ("trainer.steps=400", "evaluate.every=400", "trainer.heldout_every=400")
    later = ("trainer.sample_every=400", "trainer.checkpoint_every=400")
    arguments = (*ARGUMENTS, *small, *steps, *later, "hydra.run.dir=run")
    done = succeed("train.py", *arguments, cwd=tmp_path)
    assert "IGNORES" not in done.printed
    assert looks(tmp_path / "run")[400]["evaluate/label_certainty"] > 3


@pytest.mark.parametrize(
    "override", ["evaluate.every=-1", "evaluate.images=3", "evaluate.steps=0"]
)
def test_impossible_settings_are_refused(override, tmp_path):
    done = call("train.py", *ARGUMENTS, override, cwd=tmp_path)
    assert done.status != 0
    assert override.split("=")[0] in done.printed
    assert "Traceback" not in done.printed


@pytest.mark.parametrize("more", [[], ["extractor.file=nowhere.pt"]])
def test_an_extractor_that_is_not_there_is_told_before_training(more, tmp_path):
    arguments = (*ARGUMENTS, "extractor=path", *more, "hydra.run.dir=run")
    done = call("train.py", *arguments, cwd=tmp_path)
    assert done.status == 1
    assert "extractor.file=" in done.printed
    assert "Traceback" not in done.printed
    assert not (tmp_path / "run" / "metrics.jsonl").exists(), "not a step was taken"


def test_a_handful_of_images_is_judged_as_far_as_it_goes(tmp_path):
    """Of four images one is held out: it has no covariance, and no fifth neighbour."""
    for i in range(4):
        path = tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 60 * i).save(path)
    data = ("data=folder", "data.root=pictures", "data.image_size=8", "data.channels=1")
    told = succeed("train.py", *ARGUMENTS, *data, "hydra.run.dir=run", cwd=tmp_path).printed
    assert "not judged on the way" in told
    run = tmp_path / "run"
    for row in rows(run):
        assert all(math.isfinite(value) for value in row.values()), row
    arguments = ("run=run", "n=20", "sampler.steps=1", "likelihood_images=0", "device=cpu")
    succeed("ccdiff.evaluate", *arguments, "name=few", cwd=tmp_path)
    text = (run / "evaluation" / "few" / "metrics.json").read_text()
    found = {(f["name"], f["provenance"]["reference"]) for f in json.loads(text)["figures"]}
    assert ("label_agreement_classifier", None) in found
    assert ("fd_classifier", "train") in found
    assert not {("fd_classifier", "heldout"), ("recall_classifier", "train")} & found


def test_a_model_that_knows_its_images_by_heart_is_told(tmp_path, monkeypatch):
    """Samples are training images, and none of the held-out ones is that near to any."""
    seen = {}
    real = Training.__init__

    def noting(self, *args, **kwargs):
        real(self, *args, **kwargs)
        seen["train"] = self.train_split

    def drawn(self, denoiser, y, drop, *, seeds, **_):
        images = seen["train"].images
        return images[torch.arange(len(y)) % len(images)], None

    monkeypatch.setattr(Training, "__init__", noting)
    monkeypatch.setattr(Pipeline, "__call__", drawn)
    monkeypatch.setattr(DrawGrids, "__call__", lambda self, state: None)
    arguments = (*ARGUMENTS, "data.limit=30", "trainer.steps=3", "hydra.run.dir=run")
    done = succeed("train.py", *arguments, cwd=tmp_path)
    assert len(seen["train"]) == 30
    found = looks(tmp_path / "run")[3]
    assert found["evaluate/copies"] == 1.0
    assert found["evaluate/copying_classifier"] > 0.95
    assert "20 of 20 samples are copies of one of the 30 training images" in done.printed
    assert "augment=geometric" in done.printed


def test_one_judge_serves_parts_of_any_size(tmp_path, monkeypatch):
    taught = []

    def noting(train, **settings):
        taught.append(len(train))
        return untrained(train, **settings)

    monkeypatch.setattr("ccdiff.metrics.classifier.train_classifier", noting)
    cfg = compose("train", ["data.limit=30"])
    data = build_data(cfg)
    train, heldout = data.load()
    device = torch.device("cpu")
    for limit in (30, 60):
        part = replace(data, limit=limit)
        train, heldout = part.load()
        material = Material.of(part, train, heldout, cache=tmp_path, device=device)
        assert len(material.train) == limit
        ClassifierSource().open(material)
    assert taught == [1621]
