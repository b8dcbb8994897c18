"""The tools for images, as a user calls them."""

from pathlib import Path

import numpy as np
import pytest
from cli import TINY, call, rarely, succeed
from PIL import Image

from ccdiff.data import Digits

QUICK = ("sampler.steps=8", "device=cpu", "precision=fp32", "weights=raw")
COMMAND = "ccdiff.edit"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("edit")
    # Enough for labels to have their say.
    steps = (*rarely(150), "trainer.warmup=1")
    quick = ("prediction=clean", "weighting=uniform", "optimizer.lr=5e-3", "tracker=none")
    succeed("train.py", *TINY, *steps, *quick, "hydra.run.dir=outputs/one", cwd=folder)
    return folder / "outputs" / "one"


@pytest.fixture(scope="module")
def heldout() -> np.ndarray:
    """Held-out images, uint8 [N, 8, 8, 1]."""
    names = [str(i) for i in range(10)]
    _, split = Digits(image_size=8, channels=1, label_names=names, flip=False).load()
    return split.images.permute(0, 2, 3, 1).numpy()


def done(run: Path, out: Path, *arguments: str) -> np.ndarray:
    """The images that were made, [rows, columns, H, W, C]."""
    succeed(COMMAND, f"run={run}", f"out={out}", *QUICK, *arguments, cwd=run)
    with np.load(out / "images.npz") as file:
        images = file["images"]
    with Image.open(out / "grid.png") as grid:
        assert grid.width > grid.height / len(images)
    return images


def gap(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference, in gray values."""
    return float(np.abs(first.astype(float) - second.astype(float)).mean())


def test_a_strip_ends_in_the_sample(run, tmp_path):
    strip = done(run, tmp_path / "a", "task=strip", "labels=[3,7]", "task.frames=4")
    assert strip.shape == (8, 8, 8, 1)
    succeed("sample.py", f"run={run}", *QUICK, "sampler=ddim", "labels=[3,7]", "num_per_label=1",
            f"out={tmp_path / 'b'}", cwd=run)  # fmt: skip
    with np.load(tmp_path / "b" / "samples.npz") as file:
        assert gap(strip[[3, 7]], file["images"]) < 0.1
    assert not np.array_equal(strip[0], strip[3])
    with Image.open(tmp_path / "a" / "film.gif") as film:
        assert film.n_frames == 4


def test_noise_behind_an_image_gives_it_back(run, heldout, tmp_path):
    steps = ("sampler=heun", "sampler/grid=karras", "sampler.steps=60", "threshold=none")
    images = done(run, tmp_path / "out", "task=invert", "images=[5,20]", *steps)
    original, _, back = images.reshape(2, 3, 8, 8, 1).transpose(1, 0, 2, 3, 4)
    assert np.array_equal(original, heldout[[5, 20]])
    assert gap(original, back) < 8
    with np.load(tmp_path / "out" / "images.npz") as file:
        assert file["noise"].shape == (2, 1, 8, 8)
        assert np.isfinite(file["noise"]).all()


def test_interpolation_meets_both_labels(run, tmp_path):
    arguments = ("task=interpolate", "task.frames=5")
    across = done(run, tmp_path / "across", *arguments, "labels=[3,7]")
    back = done(run, tmp_path / "back", *arguments, "labels=[7,3]")
    assert across.shape == (5, 8, 8, 1)
    assert gap(across, back[::-1]) < 0.1
    assert gap(across[0], across[-1]) > gap(across[0], across[1]) > 0


def test_interpolation_meets_both_seeds_and_both_images(run, heldout, tmp_path):
    arguments = ("task=interpolate", "task.frames=3")
    seeds = done(run, tmp_path / "s", *arguments, "labels=[4]", "task.to_seed=1", "seed=0")
    other = done(run, tmp_path / "o", *arguments, "labels=[4]", "task.to_seed=0", "seed=1")
    assert gap(seeds, other[::-1]) < 0.1
    assert gap(seeds[0], seeds[-1]) > 5
    fine = ("sampler=heun", "sampler/grid=karras", "sampler.steps=60", "threshold=none")
    images = done(run, tmp_path / "i", *arguments, "images=[5,20]", *fine)
    assert gap(images[[0, -1]], heldout[[5, 20]]) < 8


def test_inpainting_keeps_the_known_part(run, heldout, tmp_path):
    arguments = ("task=inpaint", "images=[5,20]", "task.variations=2", "task.resamples=2")
    images = done(run, tmp_path / "half", *arguments, "task.mask=left").reshape(2, 3, 8, 8, 1)
    kept = np.broadcast_to(heldout[[5, 20], None, :, 4:], (2, 3, 8, 4, 1))
    assert np.array_equal(images[:, :, :, 4:], kept)
    assert gap(images[:, 1, :, :4], images[:, 2, :, :4]) > 1, "variations are all the same"


def test_a_mask_may_be_a_file(run, heldout, tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[:3, :5] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    arguments = ("task=inpaint", "images=[5]", "task.variations=1", "task.resamples=1")
    images = done(run, tmp_path / "out", *arguments, f"task.mask={tmp_path / 'mask.png'}")
    assert np.array_equal(images[1][mask == 0], heldout[5][mask == 0])
    assert not np.array_equal(images[1][mask > 0], heldout[5][mask > 0])


def test_less_noise_leaves_more_of_the_image(run, heldout, tmp_path):
    Image.fromarray(heldout[5, ..., 0]).save(tmp_path / "five.png")
    file = f"images=[{tmp_path / 'five.png'}]"
    gaps = []
    for start in (0.05, 0.5, 1.0):
        arguments = ("task=img2img", file, "labels=[3]", f"task.start={start}")
        images = done(run, tmp_path / str(start), *arguments)
        assert images.shape == (5, 8, 8, 1)
        assert np.array_equal(images[0], heldout[5]), "the file is not what was shown"
        gaps.append(gap(images[1:], heldout[5]))
    assert gaps[0] < gaps[1] < gaps[2]
    assert gaps[0] < 0.5 * gaps[2]


def test_one_image_goes_with_many_labels(run, heldout, tmp_path):
    arguments = ("task=img2img", "images=5", "labels=[3,8]", "task.variations=1")
    images = done(run, tmp_path / "out", *arguments).reshape(2, 2, 8, 8, 1)
    assert np.array_equal(images[0, 0], images[1, 0])
    assert not np.array_equal(images[0, 1], images[1, 1])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["task", "inpaint"]),
        (["task=inpant"], ["inpant", "inpaint"]),
        (["task=inpaint"], ["images="]),
        (["task=inpaint", "images=[999]"], ["999", "numbered 0.."]),
        (["task=inpaint", "images=[none.png]", "labels=[1]"], ["none.png", "no such file"]),
        (["task=inpaint", "images=[text.png]", "labels=[1]"], ["text.png", "not an image"]),
        (["task=inpaint", "images=[one.png]"], ["labels="]),
        (["task=inpaint", "images=[0,1,2]", "labels=[1,2]"], ["2 labels for 3 images"]),
        (["task=inpaint", "images=[0]", "task.mask=lefft"], ["lefft", "center"]),
        (["task=inpaint", "images=[0]", "task.mask=one.png"], ["one.png", "all"]),
        (["task=inpaint", "images=[0]", "task.resamples=0"], ["resamples", "0"]),
        (["task=img2img", "images=[0]", "task.start=1.5"], ["start", "1.5"]),
        (["task=img2img", "images=[0]", "task.variations=0"], ["variations", "0"]),
        (["task=invert", "images=[0]", "sampler=ddpm"], ["inverse", "deterministic"]),
        (["task=interpolate", "labels=[1,2,3]"], ["two ends", "3"]),
        (["task=interpolate", "labels=[1]"], ["to_seed"]),
        (["task=strip", "images=[0]"], ["images"]),
        (["task=strip", "labels=[eleven]"], ["eleven"]),
        (["task=strip", "out=."], ["out=.", "not empty"]),
    ],
    ids=lambda value: " ".join(value) if value and "=" in value[0] else "",
)
def test_bad_input_is_one_clear_error(arguments, parts, run):
    (run / "text.png").write_text("not an image at all")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(run / "one.png")
    given = call(COMMAND, f"run={run}", "device=cpu", *arguments, cwd=run)
    assert given.status != 0
    assert "Traceback" not in given.printed
    for part in parts:
        assert part in given.printed
    assert not (run / "edited").exists(), "a request that was refused left something"
