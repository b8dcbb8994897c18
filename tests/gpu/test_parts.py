"""The parts ``speed`` and ``cifar10`` from beginning to end, as small as can be."""

import json
from dataclasses import replace

import pytest
import torch

from ccdiff.data import CIFAR10
from tests.gpu import cifar10, layout, speed
from tests.gpu.bench import Bench


@pytest.fixture
def bench(tmp_path):
    return Bench(device=torch.device("cpu"), out=tmp_path, seconds=600, miniature=True)


def test_both_in_miniature(bench):
    with bench.in_part("speed", 0.5):
        speed.run(bench)
    with bench.in_part("cifar10", 1.0):
        cifar10.run(bench)
    assert not bench.failures(), (bench.out / "log.txt").read_text()
    rows = {row["case"]: row for row in bench.rows}

    timed_ones = [case.name for case in speed.miniature()]
    assert rows["all compile"]["ready"] == len(timed_ones) == 3
    assert all(rows[name]["images_per_second"] > 0 for name in timed_ones)
    assert rows[speed.FAST]["time_split"].startswith("data ")
    assert sum(name.startswith("goal: ") for name in rows) == 4

    assert rows["plan"]["reckoned_images_per_second"] == rows[speed.FAST]["images_per_second"]
    assert rows["training"]["steps"] == rows["plan"]["steps"] == 6
    assert sum("on the way" in name for name in rows) == 3
    judged = rows["20 images, guidance of the recipe"]
    assert judged["fd_classifier_to_heldout"] > 0
    assert 0 <= judged["label_agreement_classifier"] <= 1
    assert {"cifar10.png", "cifar10-curve.png"} < {path.name for path in bench.out.iterdir()}
    assert len(list(bench.out.iterdir())) <= 8


def test_the_recipe_is_timed_where_the_part_speed_has_not(bench, monkeypatch):
    def command(bench, script, *arguments, on_wait):
        folder = next(a for a in arguments if a.startswith("hydra.run.dir=")).partition("=")[2]
        rows = [
            {"step": i, "train/loss": 1.0, "train/images_per_second": r}
            for i, r in ((1, 9.0), (2, 90.0))
        ]
        bench.out.joinpath(folder).mkdir(parents=True)
        bench.out.joinpath(folder, "metrics.jsonl").write_text(
            "".join(json.dumps(r) + "\n" for r in rows)
        )
        return 0

    monkeypatch.setattr(cifar10, "_command", command)
    part = cifar10._Part(bench.out / "here")
    cifar10._speed(bench, part)
    assert part.rate == 90.0


def test_images_as_jpeg_become_the_layout_of_cifar10(tmp_path):
    npz = layout.noise(tmp_path / "noise.npz", n=30)
    layout.write_batches(npz, tmp_path / "data")
    settings = {"image_size": 32, "channels": 3, "flip": True, "placement": "auto"}
    data = CIFAR10(
        root=str(tmp_path / "data"),
        download=False,
        verify=False,
        balance="none",
        label_names=list("abcdefghij"),
        **settings,
    )
    train, heldout = data.load()
    assert [len(train), len(heldout)] == [20, 10]
    assert torch.cat([train.labels, heldout.labels]).tolist() == [i % 10 for i in range(30)]
    # JPEG moves a plain square by a level or two.
    assert (train.images[13].float().mean((1, 2)) - torch.tensor([75.0, 99, 13])).abs().max() < 3


def test_a_command_is_followed_while_it_runs(bench, monkeypatch):
    """As a process of its own, which is what it is where a GPU is."""
    bench.miniature = False
    looks = []
    status = cifar10._command(
        bench, "timeit", "-n1", "-r1", "print('here')", on_wait=lambda: looks.append(1)
    )
    assert status == 0
    assert looks
    assert "here" in (bench.out / "log.txt").read_text()


def test_a_case_that_cannot_be_prepared_ends_no_other(bench, monkeypatch):
    """Each in a process of its own, which is killed in the end."""
    good, bad = speed.miniature()[0], replace(speed.miniature()[1], overrides=("no=key",))
    monkeypatch.setattr(speed, "cases", lambda: [bad, good])
    monkeypatch.setattr(speed, "miniature", speed.cases)
    speed.run(bench)
    assert [row["case"] for row in bench.failures()] == [bad.name]
    assert "no" in bench.failures()[0]["told"]
    assert "without a word" not in bench.failures()[0]["told"]
    assert {row["case"]: row for row in bench.rows}[good.name]["images_per_second"] > 0
