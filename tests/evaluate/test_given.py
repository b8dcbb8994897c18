"""Pictures of others, judged against a data set without a run."""

import json

import numpy as np
import pytest
import torch
from cli import call, succeed
from PIL import Image

from ccdiff.data import Digits
from ccdiff.metrics.classifier import Classifier

SIZE = ("device=cpu",)


@pytest.fixture(scope="module", autouse=True)
def judge():
    """One that is not trained, which has its own tests; its features still tell images apart."""

    def untrained(train, *, num_labels, **_) -> Classifier:
        torch.manual_seed(0)
        return Classifier((1, 8, 8), num_labels=num_labels).eval()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ccdiff.metrics.classifier.train_classifier", untrained)
        yield


@pytest.fixture(scope="module")
def heldout():
    split = Digits(image_size=8, channels=1, flip=False).read()[1]
    return split.images.permute(0, 2, 3, 1).numpy(), split.labels.numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, heldout):
    folder = tmp_path_factory.mktemp("given")
    images, labels = heldout
    np.savez(folder / "real.npz", arr_0=images, arr_1=labels)
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    np.savez(folder / "noise.npz", images=noise, labels=labels)
    for i, (image, label) in enumerate(zip(images[:60], labels[:60], strict=True)):
        path = folder / "tree" / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    return folder


def judged(folder, samples: str) -> tuple[dict, str]:
    out = folder / f"of-{samples}"
    if not out.exists():
        succeed("ccdiff.evaluate", f"samples={samples}", f"out={out}", *SIZE, cwd=folder)
    found = json.loads((out / "metrics.json").read_text())
    keyed = {
        f"{f['name']}_to_{f['provenance']['reference']}": f["value"] for f in found["figures"]
    }
    return {**found, "keyed": keyed}, (out / "index.html").read_text()


def test_real_images_are_at_no_distance_and_noise_is_far(folder):
    (real, page), (noise, _) = judged(folder, "real.npz"), judged(folder, "noise.npz")
    key = "fd_classifier_to_heldout"
    # Features of a network that is not trained are small: distances compare with one another.
    assert noise["keyed"][key] > 1e6 * abs(real["keyed"][key])
    assert "real.npz, against Digits" in page
    # What takes a model is left out, and not made up.
    assert real["levels"] == []
    assert real["label_blind"] is None
    assert not any("bits" in figure["name"] for figure in real["figures"])


def test_a_folder_of_pictures_is_the_same_as_its_arrays(folder, heldout):
    images, labels = (u[:60] for u in heldout)
    order = np.argsort(labels, kind="stable")
    np.savez(folder / "few.npz", arr_0=images[order], arr_1=labels[order])
    tree, few = judged(folder, "tree")[0], judged(folder, "few.npz")[0]
    for one, same in zip(tree["classes"], few["classes"], strict=True):
        assert (one["name"], one["n"]) == (same["name"], same["n"])
        assert one["fd"] == pytest.approx(same["fd"], rel=1e-4)
    assert tree["keyed"].keys() == few["keyed"].keys()


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"arr_0": np.zeros((30, 8, 8, 1), np.uint8)}, "no label for each image"),
        ({"arr_1": np.zeros(30, np.int64)}, "neither arr_0 nor images"),
        ({"arr_0": np.zeros((30, 8, 8, 3), np.uint8), "arr_1": np.zeros(30, int)}, "3 x 8 x 8"),
        ({"arr_0": np.zeros((30, 8, 8)), "arr_1": np.zeros(30, int)}, "float64"),
        ({"arr_0": np.zeros((30, 8, 8), np.uint8), "arr_1": np.full(30, 10)}, "from 0 to 9"),
        ({"arr_0": np.zeros((30, 8, 8), np.uint8), "arr_1": np.zeros(30)}, "whole numbers"),
        ({"arr_0": np.zeros((3, 8, 8), np.uint8), "arr_1": np.zeros(3, int)}, "has 3 images"),
        ({"arr_0": np.array([{}] * 30), "arr_1": np.zeros(30, int)}, "no .npz of arrays"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_judged_is_told(arrays, told, tmp_path):
    np.savez(tmp_path / "theirs.npz", **arrays)
    done = call("ccdiff.evaluate", "samples=theirs.npz", "out=out", *SIZE, cwd=tmp_path)
    assert done.status == 1
    assert told in done.printed
    assert "Traceback" not in done.printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ("nowhere", "no such file"),
        ("empty", "a folder for each label, called 0"),
        ("text.npz", "no .npz"),
    ],
)
def test_what_is_not_there_is_told(samples, told, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("words")
    done = call("ccdiff.evaluate", f"samples={samples}", *SIZE, cwd=tmp_path)
    assert done.status == 1
    assert told in done.printed
