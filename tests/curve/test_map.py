"""The map of a run over averaged weights and guidance."""

import csv

import pytest
import torch
from cli import TINY, call, rarely, succeed
from PIL import Image

from ccdiff.curve.__main__ import list_arguments
from ccdiff.curve.heat import plot_map
from ccdiff.metrics.classifier import Classifier
from ccdiff.metrics.over_seeds import Spread

COMMAND = "ccdiff.curve"


def untrained(train, *, num_labels: int, flip: bool, device: object) -> Classifier:
    """Stands in for the training of the classifier, which has its own tests."""
    torch.manual_seed(0)
    return Classifier((1, 8, 8), num_labels=num_labels).eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("map")
    arguments = (*TINY, *rarely(12), "ema=posthoc", "ema.snapshots=6", "conditioning.drop=0.1")
    arguments += ("optimizer.lr=0.01", "trainer.warmup=0", "tracker=none")
    succeed("train.py", *arguments, f"hydra.run.dir={folder}", cwd=folder)
    return folder


def test_every_average_meets_every_scale(run, monkeypatch):
    monkeypatch.setattr("ccdiff.metrics.classifier.train_classifier", untrained)
    chosen = ("ema=ema,0.05,raw", "guidance.scale=1,4", "seeds=0,1", "num_per_label=2")
    succeed(COMMAND, f"run={run}", *chosen, "device=cpu", "precision=fp32", cwd=run)
    with (run / "curve" / "001" / "map.csv").open() as file:
        *rows, real = csv.DictReader(file)
    assert [(r["weights"], r["scale"]) for r in rows] == [
        (weights, scale) for weights in ("ema", "0.05", "raw") for scale in ("1", "4")
    ]
    assert real["weights"] == "training images"
    distance = {(r["weights"], r["scale"]): float(r["fd_classifier_to_heldout"]) for r in rows}
    assert distance["0.05", "1"] == pytest.approx(distance["ema", "1"], rel=1e-3)
    assert distance["raw", "1"] != pytest.approx(distance["ema", "1"], rel=1e-2)
    assert distance["ema", "4"] != pytest.approx(distance["ema", "1"], rel=1e-3)
    assert {(r["seeds"], r["images_per_seed"]) for r in rows} == {("2", "20")}
    with Image.open(run / "curve" / "001" / "map.png") as picture:
        assert picture.width > 800


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ema=0.05,0.6"], "a width lies between"),
        (["ema=0.05,0.05"], "ema must name at least one, and each once"),
        (["ema=0.05", "sampler=ddim,heun"], "a map is drawn by one sampler"),
        (["ema=best"], "weights must be ema, raw or the width"),
    ],
)
def test_what_no_map_can_be_drawn_of_is_refused_at_once(run, arguments, told):
    done = call(COMMAND, f"run={run}", *arguments, "device=cpu", cwd=run)
    assert done.status == 1
    assert told in done.printed


def test_lists_make_a_map_and_a_single_scale_none():
    mapped = list_arguments(["ema=0.05,0.1", "guidance.scale=1,2", "steps=5"])
    assert mapped == ["samplers=[]", "steps=[]", "widths=[0.05,0.1]", "scales=[1,2]", "steps=[5]"]
    single = ["guidance=cfg", "guidance.scale=2"]
    assert list_arguments(single) == single


def test_the_best_is_framed_whichever_way_is_better(tmp_path):
    framed = {}
    for name, best in (("label_agreement_x", (0, 1)), ("fd_x", (1, 0))):
        path = tmp_path / f"{name}.png"
        values = [[Spread(v, 0.01, 2) for v in line] for line in ((0.5, 0.9), (0.1, 0.5))]
        plot_map(
            {name: values},
            rows=["a", "b"],
            columns=["c", "d"],
            real={name: 1.0},
            paths=[path, path.with_suffix(".svg")],
            title="",
        )
        sd = "± 1.0" if name.startswith("label") else "± 0.010"
        assert path.with_suffix(".svg").read_text().count(f">{sd}<") == 4
        with Image.open(path) as image:
            pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
            size = (image.height, image.width, 3)
        orange = (pixels.view(size).int() - torch.tensor([213, 94, 0])).abs().sum(-1) < 30
        rows, columns = (place.float().mean() for place in orange.nonzero(as_tuple=True))
        framed[best] = (int(rows > size[0] / 2), int(columns > size[1] / 2))
    assert all(best == found for best, found in framed.items())
