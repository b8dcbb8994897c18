"""``python -m ccdiff.prepare`` and ``python -m ccdiff.inspect``, as a user calls them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli import call
from omegaconf import OmegaConf
from PIL import Image

from ccdiff.data import Split
from ccdiff.errors import UserError
from ccdiff.inspect.duplicates import look_alikes, same_pixels
from ccdiff.inspect.job import co_occurrence, run_inspection

NUM = 20


@pytest.fixture
def root(tmp_path) -> Path:
    """Random images with a table; two are the same and one is nearly so."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    pixels = random.integers(2, 254, (NUM, 16, 16, 3), dtype=np.uint8)
    pixels[9] = pixels[4]  # held out
    pixels[7] = pixels[6] + random.integers(-2, 2, (16, 16, 3)).astype(np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i}.png")
    parts = ["val" if i % 10 == 9 else "train" for i in range(NUM)]
    rows = [f"{i}.png,{int(i % 2 == 0)},{int(i % 4 == 0)},{parts[i]}" for i in range(NUM)]
    (folder / "labels.csv").write_text("\n".join(["file,even,fourth,split", *rows]))
    return folder


def test_preparing_leaves_one_folder_and_says_what_is_there(root, tmp_path):
    settings = ["data=folder", "data.root=pictures", "data.image_size=8", "data.cache=kept"]
    done = call("ccdiff.prepare", *settings, cwd=tmp_path)
    assert done.status == 0, done.printed
    assert "18 training images, 2 held out; 2 attributes" in done.printed
    assert "  even: 10 training images, 0 held out\n  fourth: 5 training" in done.printed
    assert "  no held-out image of even, fourth" in done.printed
    assert "every byte is as it was written" in done.printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "pictures"]
    assert len(list((tmp_path / "kept").glob("pictures-8px-*/manifest.json"))) == 1

    (root / "3.png").write_bytes(b"not an image")
    failed = call("ccdiff.prepare", *settings, cwd=tmp_path)
    assert failed.status == 1
    assert "3.png: not an image in a known format" in failed.printed
    assert "Traceback" not in failed.printed


def test_an_inspection_shows_counts_pictures_and_duplicates(root, tmp_path, capsys):
    data = {
        "_target_": "ccdiff.data.Folder",
        "root": str(root),
        "image_size": 16,
        "channels": 3,
        "flip": False,
        "label_names": None,
        "cache": str(tmp_path / "cache"),
    }
    out = tmp_path / "report"
    cfg = OmegaConf.create(
        {"data": data, "out": str(out), "images_per_label": 12, "format": "png"}
    )
    out.touch()
    with pytest.raises(UserError, match="report is a file"):
        run_inspection(cfg)
    out.unlink()
    (out / "notes").mkdir(parents=True)
    with pytest.raises(UserError, match="report is not empty"):
        run_inspection(cfg)
    with pytest.raises(UserError, match="images_per_label must be at least 1, got 0"):
        run_inspection(OmegaConf.merge(cfg, {"images_per_label": 0}))
    assert not capsys.readouterr().out, "told before any work"
    (out / "notes").rmdir()
    run_inspection(cfg)
    report = json.loads((out / "inspection.json").read_text())
    assert report["images"] == {"train": 18, "heldout": 2}
    assert report["labels"] == {
        "even": {"train": 10, "heldout": 0},
        "fourth": {"train": 5, "heldout": 0},
    }
    assert report["cooccurrence"] == [[1, 0.5], [1, 1]]
    assert report["same_pixels"] == [["4.png", "9.png"]]
    assert report["look_alikes"] == [["6.png", "7.png"]]
    for name in ("contact_sheet", "counts", "cooccurrence", "combinations", "duplicates"):
        with Image.open(out / f"{name}.png") as picture:
            assert np.asarray(picture.convert("RGB")).std() > 5
    assert "1 of them across training and held-out" in capsys.readouterr().out


def test_classes_are_counted_and_shown_too(tmp_path):
    data = {
        "_target_": "ccdiff.data.Digits",
        "image_size": 8,
        "channels": 1,
        "flip": False,
        "label_names": [str(i) for i in range(10)],
    }
    cfg = OmegaConf.create(
        {"data": data, "out": str(tmp_path / "report"), "images_per_label": 4, "format": "pdf"}
    )
    run_inspection(cfg)
    report = json.loads((tmp_path / "report" / "inspection.json").read_text())
    counts = [sum(label.values()) for label in report["labels"].values()]
    assert counts == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert "cooccurrence" not in report
    assert not list((tmp_path / "report").glob("co[om]*"))
    assert (tmp_path / "report" / "counts.pdf").read_bytes().startswith(b"%PDF")


def test_co_occurrence_is_a_conditional_share():
    labels = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=torch.uint8)
    share = co_occurrence(labels)
    assert share[0].tolist() == [1, 2 / 3, 0]
    assert share[1].tolist() == [2 / 3, 1, 0]
    assert share[2].tolist() == [0, 0, 0]


def test_counts_do_not_overflow():
    labels = torch.ones(300, 2, dtype=torch.uint8)
    images = torch.zeros(300, 1, 1, 1, dtype=torch.uint8)
    assert Split(images, labels).count_labels(2).tolist() == [300, 300]
    assert Split(images, labels[:, 0].long()).count_labels(3).tolist() == [0, 300, 0]


def test_copies_are_found_across_parts_and_by_every_pixel(generator):
    images = torch.randint(0, 256, (600, 3, 16, 16), dtype=torch.uint8, generator=generator)
    images[550] = images[599] = images[3]
    images[20] = images[30]
    images[20, 2, 15, 15] ^= 1
    parts = [images[:560], images[560:]]
    assert same_pixels(parts) == [[3, 550, 599]]
    found = {(3, 550), (3, 599), (550, 599), (20, 30)}
    assert set(look_alikes(parts)) == found
    assert len(look_alikes(parts, limit=2)) == 2


def test_looking_alike_has_a_limit_in_gray_levels(generator):
    images = torch.randint(10, 240, (2, 1, 8, 8), dtype=torch.uint8, generator=generator)
    for step, alike in ((1, True), (3, False)):
        pair = torch.stack([images[0], images[0] + step])
        assert bool(look_alikes([pair], distance=2)) is alike
    assert not look_alikes([images])
