"""Points of the plane through the whole pipeline: trained, drawn, judged, looked at."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli import call, rarely, succeed
from PIL import Image

import ccdiff
from ccdiff.data import Gaussians
from ccdiff.errors import UserError
from ccdiff.evaluate.given import read_samples
from ccdiff.runs.checkpoints import load_checkpoint

STEPS = 300
DATA = ("data=gaussians", "data.n=4000", "model=mlp", "model.width=64", "model.depth=2")
QUICK = (
    *("trainer.precision=fp32", "trainer.device=cpu", "trainer.samples_per_label=4"),
    *("trainer.warmup=20", "trainer.cooldown=200", "optimizer.lr=4e-3"),
    *("sampler=heun", "sampler.steps=10", "tracker=none", "conditioning.drop=0.1"),
)
WATCHED = ("evaluate.every=100", "evaluate.images=200", "evaluate.steps=20")
DRAWN = ("sampler=heun", "sampler.steps=10", "device=cpu", "precision=fp32")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("points")
    arguments = (*DATA, *QUICK, *WATCHED, *rarely(STEPS), "trainer.heldout_every=100")
    succeed("train.py", *arguments, "hydra.run.dir=run", cwd=folder)
    return folder / "run"


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_learned_field_comes_near_the_exact_one(run):
    errors = [r["heldout/excess_eps_mse"] for r in rows(run) if "heldout/excess_eps_mse" in r]
    assert len(errors) == 3
    assert errors[-1] < 0.03
    assert errors[-1] < errors[0] / 2
    found = [r for r in rows(run) if "evaluate/label_agreement_exact" in r]
    assert found[-1]["evaluate/label_agreement_exact"] >= 0.9
    assert found[-1]["evaluate/fd_exact_to_heldout"] < 0.01
    assert (run / "samples" / "grid.png").exists()


def test_points_are_drawn_as_numbers_and_as_a_plot(run):
    out = run.parent / "drawn"
    succeed("sample.py", f"run={run}", f"out={out}", *DRAWN, "num_per_label=30", cwd=run.parent)
    with np.load(out / "samples.npz") as file:
        points, labels = file["points"], file["labels"]
        assert np.array_equal(points, file["arr_0"])
    assert points.shape == (240, 2)
    assert points.dtype == np.float32
    angles = 2 * np.pi * labels / 8
    centres = 0.6 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert np.median(np.linalg.norm(points - centres, axis=1)) < 0.2
    assert not (out / "images").exists()
    with Image.open(out / "grid.png") as plot:
        assert plot.height == 420
    with Image.open(out / "denoising.gif") as film:
        assert film.n_frames > 1
    images = ccdiff.load(run).sample([2], num_per_label=5)
    assert np.asarray(images).shape == (5, 2)
    assert images[0].size == (420, 420)


def test_points_are_judged_by_their_density(run):
    asked = (*DRAWN, "n=100", "likelihood_images=20", "likelihood_steps=6", "heldout_images=100")
    succeed("ccdiff.evaluate", f"run={run}", "name=one", *asked, cwd=run.parent)
    told = json.loads((run / "evaluation" / "one" / "metrics.json").read_text())
    figures = {figure["name"]: figure for figure in told["figures"]}
    assert figures["sliced_wasserstein"]["value"] < 0.1
    assert figures["sliced_wasserstein"]["real"] < 0.1
    assert "energy_distance" in figures
    assert figures["excess_eps_mse"]["value"] < 0.05
    nats = figures["nats_per_point"]
    assert nats["value"] == pytest.approx(nats["real"], abs=0.5)
    assert "bits_per_dimension" not in figures


def test_points_of_others_are_judged_too(run):
    """And those that a stranger's file holds are looked at first."""
    data = Gaussians(image_size=1, channels=2, flip=False)
    points = data.load()[1].take(160)
    np.savez(run.parent / "theirs.npz", arr_0=points.images.flatten(1), arr_1=points.labels)
    given = ("samples=theirs.npz", "data=gaussians", "out=judged", "device=cpu")
    succeed("ccdiff.evaluate", *given, cwd=run.parent)
    told = json.loads((run.parent / "judged" / "metrics.json").read_text())["figures"]
    (agreement,) = (f for f in told if f["name"] == "label_agreement_exact")
    assert agreement["value"] > 0.97
    for wrong in (np.zeros((30, 3)), np.zeros((30, 2), np.uint8), np.full((30, 2), np.nan)):
        np.savez(run.parent / "wrong.npz", arr_0=wrong, arr_1=np.zeros(30, np.int64))
        with pytest.raises(UserError, match=r"wrong\.npz holds"):
            read_samples(run.parent / "wrong.npz", data)


def test_the_field_is_drawn_beside_the_exact_one(run):
    succeed("ccdiff.inspect", "part=field", f"run={run}", "out=field", cwd=run.parent)
    found = json.loads((run.parent / "field" / "field.json").read_text())
    ends = found["ends of paths from the same noise, RMS difference"]
    assert ends < 0.2
    field = found["field at log-SNR 0, RMS difference"]
    assert field < 0.3 * found["field at log-SNR 0, RMS of the exact one"]
    assert (run.parent / "field" / "field.png").stat().st_size > 10_000
    data = ("data=gaussians", "data.n=200", "out=counts", "images_per_label=30")
    succeed("ccdiff.inspect", *data, cwd=run.parent)
    assert (run.parent / "counts" / "contact_sheet.png").exists()


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit(tmp_path):
    whole = (*DATA, *QUICK, *rarely(6), "evaluate.every=0", "trainer.checkpoint_every=3")
    succeed("train.py", *whole, "hydra.run.dir=run", cwd=tmp_path)
    last = tmp_path / "run" / "checkpoints" / "step_00000006.pt"
    one = load_checkpoint(last)["denoiser"]
    last.unlink()
    succeed("train.py", "resume=run", cwd=tmp_path)
    two = load_checkpoint(last)["denoiser"]
    for key, weight in one.items():
        assert (weight == two[key]).all(), key


@pytest.mark.parametrize(
    ("script", "arguments", "told"),
    [
        ("train.py", (*DATA, "augment=flip"), "augment=flip changes images"),
        ("train.py", (*DATA, "data.flip=true"), "data.flip mirrors images"),
        ("ccdiff.edit", ("run=run", "task=strip"), "edits are of images"),
        ("ccdiff.evaluate", ("run=run", "extractor=inception"), "looks at images"),
        ("ccdiff.inspect", ("part=field",), "pass run="),
        ("ccdiff.inspect", ("part=field", "run=run", "label=9"), "no label is named"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_for_images_alone_is_refused(run, script, arguments, told):
    done = call(script, *arguments, cwd=run.parent)
    assert done.status == 1
    assert told in done.printed
    assert "Traceback" not in done.printed
