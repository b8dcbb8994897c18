"""A model of real numbers, from a table to samples and their evaluation."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cli import TINY, call, rarely, succeed
from PIL import Image

from ccdiff.data import Split
from ccdiff.metrics.classifier import load_classifier
from ccdiff.runs.checkpoints import load_checkpoint
from ccdiff.trained.model import load_model

DATA = (
    *("data=folder", "data.root=../set", "data.image_size=8", "data.channels=1"),
    *("data.numbers=[gray,place]", "conditioning=continuous", "conditioning.drop=0.1"),
)


def picture(gray: float, place: float) -> np.ndarray:
    """A flat picture with a bright row."""
    pixels = np.full((8, 8), gray, np.uint8)
    pixels[int(place)] = 255
    return pixels


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("numbers")
    (base / "set").mkdir()
    rng = np.random.default_rng(0)
    rows = [["file", "gray", "place"]]
    for i in range(64):
        gray, place = rng.uniform(0, 200), rng.uniform(0, 8)
        Image.fromarray(picture(gray, place)).save(base / "set" / f"{i}.png")
        rows.append([f"{i}.png", "" if i % 8 == 0 else f"{gray:.2f}", f"{place:.3f}"])
    with (base / "set" / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (base / "work").mkdir()
    watched = ("evaluate.every=6", "evaluate.images=20", "evaluate.steps=3")
    arguments = (*DATA, *TINY, *rarely(6), *watched, "tracker=none")
    succeed("train.py", *arguments, "hydra.run.dir=run", cwd=base / "work")
    return base / "work" / "run"


def test_a_run_states_its_numbers_and_is_judged_by_their_error(run):
    checkpoint = load_checkpoint(run / "checkpoints" / "step_00000006.pt")
    assert checkpoint["denoiser"]["conditioning.std"][1] == pytest.approx(2.3, rel=0.2)
    for key in ("mean", "std", "low", "high", "missing"):
        averaged = checkpoint["ema"][f"ema_model.conditioning.{key}"]
        assert torch.equal(averaged, checkpoint["denoiser"][f"conditioning.{key}"])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    judged = next(row for row in rows if "evaluate/label_error_regressor" in row)
    assert judged["evaluate/label_error_regressor"] > 0
    assert "evaluate/fd_regressor_to_heldout" in judged


def test_weights_of_another_run_meet_numbers_in_the_units_they_know(run, tmp_path):
    base = shutil.copytree(run.parent.parent / "set", tmp_path / "set").parent
    with (base / "set" / "table.csv").open(newline="") as file:
        head, *table = csv.reader(file)
    table = [[name, gray and str(float(gray) * 3), place] for name, gray, place in table]
    with (base / "set" / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *table])
    (base / "work").mkdir()
    arguments = (*DATA, *TINY, *rarely(1), "evaluate.every=0", "tracker=none", f"init_from={run}")
    done = succeed("train.py", *arguments, "hydra.run.dir=run", cwd=base / "work")
    assert done.printed.count("the weights know the number") == 1
    assert "the weights know the number gray by mean" in done.printed
    before, after = (
        load_checkpoint(one)["denoiser"]
        for one in (
            run / "checkpoints" / "step_00000006.pt",
            base / "work" / "run" / "checkpoints" / "step_00000001.pt",
        )
    )
    for name in ("mean", "std"):
        assert torch.equal(*(one[f"conditioning.{name}"] for one in (before, after)))
    # What the data holds is what it holds today.
    assert after["conditioning.high"][0] == pytest.approx(3 * before["conditioning.high"][0])


def test_samples_are_asked_for_by_numbers(run, tmp_path):
    asked = "labels=[{gray: 30, place: 2.5},{place: 7}]"
    arguments = (f"run={run}", "sampler.steps=2", "device=cpu", f"out={tmp_path}/out")
    succeed("sample.py", *arguments, asked, "num_per_label=2", cwd=run)
    with np.load(tmp_path / "out" / "samples.npz") as file:
        labels = file["labels"]
    np.testing.assert_array_equal(labels[:2], [[30, 2.5]] * 2)
    np.testing.assert_array_equal(labels[2:], [[np.nan, 7]] * 2)
    names = {path.name for path in (tmp_path / "out" / "images").iterdir()}
    assert "000_gray-30-place-2.5_0000.png" in names
    refused = call("sample.py", f"run={run}", "labels=[{gray: 30}]", cwd=run)
    assert refused.status == 1
    assert "does not name place" in refused.printed
    model = load_model(run)
    drawn_too = model.sample({"gray": 30, "place": 1})
    assert drawn_too.tensor.shape == (1, 1, 8, 8)
    assert drawn_too.labels == ["gray=30, place=1"]


def test_an_evaluation_tells_how_far_numbers_are_found(run):
    quick = ("n=20", "sampler.steps=2", "heldout_images=20", "likelihood_images=0")
    succeed("ccdiff.evaluate", f"run={run}", *quick, "device=cpu", "name=one", cwd=run.parent)
    found = json.loads((run / "evaluation" / "one" / "metrics.json").read_text())
    assert [row["name"] for row in found["numbers"]] == ["gray", "place"]
    figures = {figure["name"]: figure for figure in found["figures"]}
    error = figures["label_error_regressor"]
    assert error["low"] <= error["value"] <= error["high"]
    assert error["real"] is not None
    page = (run / "evaluation" / "one" / "index.html").read_text()
    assert "Numbers, worst first" in page
    assert "standard deviations from those asked for" in page


def test_other_kinds_of_labels_are_refused_before_images_are_read(run):
    base = ("train.py", *TINY, "tracker=none")
    other = call(*base, *DATA, "conditioning=onehot", cwd=run.parent)
    assert other.status == 1
    assert "2 real numbers per image: use conditioning=continuous" in other.printed
    digits = call(*base, "conditioning=continuous", cwd=run.parent)
    assert digits.status == 1
    assert "needs real numbers for each image, but the data has one class" in digits.printed


def test_a_regressor_tells_what_shows_its_numbers_from_what_does_not(tmp_path):
    generator = torch.Generator().manual_seed(0)
    y = torch.stack([torch.rand(400, generator=generator) * 200 for _ in range(2)], dim=1)
    images = torch.stack([u.round().to(torch.uint8).expand(8, 8) for u in y[:, :1]])[:, None]
    y[::5, 0] = torch.nan
    y = y[:, :1]
    train, heldout = Split(images[:300], y[:300]), Split(images[300:], y[300:])
    regressor = load_classifier(train, heldout, num_labels=1, flip=False, cache=tmp_path)
    assert regressor.heldout_accuracy < 0.2
    again = load_classifier(train, heldout, num_labels=1, flip=False, cache=tmp_path)
    assert again.heldout_accuracy == regressor.heldout_accuracy
    noise = torch.randint(256, images.shape, generator=generator, dtype=torch.uint8)
    asked = regressor.standardised(heldout.labels).nan_to_num()
    found = regressor.logits(noise[300:])
    assert (found - asked).abs().mean() > 0.6
