"""Going on with a run whose images are held elsewhere, or read by other threads: exactly."""

from pathlib import Path

import numpy as np
import pytest
from faults import composed, outcome, same, train
from omegaconf import DictConfig
from PIL import Image

from ccdiff.data import batches
from ccdiff.runs.folder import Run

STOP = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two classes of noise, one of them rare."""
    folder = tmp_path_factory.mktemp("set")
    chance = np.random.default_rng(0)
    for i in range(40):
        path = folder / ("rare" if i % 5 == 0 else "common") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (8, 8), np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def cfg(root) -> DictConfig:
    """Everything is measured at the step where runs stop, so that no row tells that they did."""
    return composed(
        "data=folder",
        f"data.root={root}",
        f"data.cache={root.parent / 'cache'}",
        "data.image_size=8",
        "data.channels=1",
        "data.flip=true",
        "data.balance=sqrt",
        "trainer.log_every=2",
        "trainer.heldout_every=2",
    )


@pytest.fixture(scope="module")
def whole(cfg, tmp_path_factory) -> Path:
    """A run that nothing stops."""
    folder = tmp_path_factory.mktemp("whole")
    train(cfg, folder, data__placement="memory")
    return folder


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("device", 4), ("disk", 4)),
        (("disk", 4), ("device", 4)),
        (("disk", 1), ("disk", 7)),
        (("disk", 2), ("auto", 4)),
    ],
    ids=str,
)
def test_where_images_are_held_and_how_many_threads_read_changes_nothing(
    cfg, whole, tmp_path, monkeypatch, before, after
):
    for (placement, ahead), steps in ((before, {"trainer__steps": STOP}), (after, {})):
        monkeypatch.setattr(batches, "_NUM_AHEAD", ahead)
        train(cfg, tmp_path, data__placement=placement, **steps)
    weights, rows = outcome(tmp_path)
    expected, all_rows = outcome(whole)
    assert same(weights, expected)
    assert rows == all_rows


def test_the_copy_of_the_images_may_be_another(cfg, whole, tmp_path):
    train(cfg, tmp_path / "run", data__placement="disk", trainer__steps=STOP)
    train(cfg, tmp_path / "run", data__placement="disk", data__cache=str(tmp_path / "cache"))
    assert list(tmp_path.glob("cache/*/images.npy"))
    assert same(outcome(tmp_path / "run")[0], outcome(whole)[0])
    assert Run(tmp_path / "run").latest_checkpoint() == Run(tmp_path / "run").checkpoint(7)
