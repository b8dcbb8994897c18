"""What a run shows and says before there is much to see."""

import re

import pytest
from cli import TINY, rarely, succeed
from PIL import Image

from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics

STEPS = 52


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that draws first pictures, and the same that draws grids in their place."""
    folder = tmp_path_factory.mktemp("first")
    printed = []
    for name, every in (("early", STEPS), ("often", 50)):
        arguments = (*TINY, *rarely(STEPS), "tracker=none", "trainer.batch_size=4")
        arguments = (*arguments, f"trainer.sample_every={every}")
        done = succeed("train.py", *arguments, f"hydra.run.dir={name}", cwd=folder)
        printed.append(done.printed)
    return Run(folder / "early"), Run(folder / "often"), printed[0]


def test_a_first_picture_is_drawn_long_before_the_grid(runs):
    early, often, printed = runs
    drawn = {path.name for path in early.samples.glob("*_0*.png")}
    assert drawn == {f"raw_{50:08d}.png", f"raw_{STEPS:08d}.png", f"ema_{STEPS:08d}.png"}
    assert re.search(rf"step 50 .*{early.samples}/raw_{50:08d}.png", printed)
    # Not again at the last step, whose grids come then.
    assert printed.count("a first picture") == 1
    assert {path.name for path in often.samples.glob(f"*_{50:08d}.png")} == {
        f"raw_{50:08d}.png",
        f"ema_{50:08d}.png",
    }
    with Image.open(early.samples / f"raw_{50:08d}.png") as picture:
        assert len(set(picture.convert("L").tobytes())) > 20


def test_nothing_of_the_training_hangs_on_it(runs):
    early, often, _ = runs
    (found,), (expected,) = (
        [row for row in read_metrics(run.metrics) if "train/loss" in row] for run in (early, often)
    )
    assert found["train/loss"] == expected["train/loss"]


def test_it_is_said_at_the_start_how_long_it_takes(runs):
    assert re.search(r"40 more steps take about \d\d:\d\d, at [\d.e-]+ s each", runs[2])
