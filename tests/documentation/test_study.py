"""What draws the page on the study, on runs written by hand."""

import math
import statistics
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image, ImageChops

from ccdiff.pictures import grid, save_png
from ccdiff.runs.folder import Run
from ccdiff.runs.log import RunLog
from ccdiff.runs.record import FAILED, FINISHED, Record
from ccdiff.runs.tracker import NoSession
from tests.documentation.study import RECIPE, markdown, noise, picture, read, rows_of
from tests.documentation.study_grids import side_by_side

DISTANCES = {"seed-{}": 10.0, "prediction-clean+seed-{}": 3.0, "times.mean--1.0+seed-{}": 10.5}


def make_run(folder: Path, distance: float, *, seed: int, status: str = FINISHED) -> None:
    folder.mkdir(parents=True)
    run = Run(folder)
    config = {"seed": seed, "data": {"image_size": 8}, "trainer": {"samples_per_label": 3}}
    OmegaConf.save(config, run.config)
    figures = {"label_agreement_classifier": 0.5, "fd_classifier_to_heldout": distance}
    log = RunLog(run.metrics, NoSession())
    log.metrics({f"evaluate/{name}": value for name, value in figures.items()}, step=1)
    Record("", {}, seeds={}, status=status).write(run)


@pytest.fixture
def found(tmp_path):
    for name, distance in DISTANCES.items():
        for seed, luck in enumerate((0.95, 1.05)):
            make_run(tmp_path / name.format(seed), distance * luck, seed=seed)
    make_run(tmp_path / "schedule-flow+seed-0", 1.0, seed=0, status=FAILED)
    return read(tmp_path)


def test_luck_is_pooled_over_settings(found):
    sd, freedom = noise(found)
    assert freedom == len(DISTANCES)
    assert sd == pytest.approx(statistics.stdev([math.log(0.95), math.log(1.05)]))


def test_settings_are_told_apart_only_beyond_luck(found):
    rows = {row.setting: row for row in rows_of(found)}
    assert list(rows) == ["prediction=clean", RECIPE, "times.mean=-1.0"]
    assert rows[RECIPE].by is None
    assert rows["prediction=clean"].by.sure
    assert not rows["times.mean=-1.0"].by.sure
    assert "0.30 times" in markdown(list(rows.values()))
    assert [row.setting for row in rows_of(found, only="^times")] == [RECIPE, "times.mean=-1.0"]


def test_the_picture_has_a_row_for_each(found):
    drawn = ElementTree.fromstring(picture(rows_of(found), title="a < b"))
    texts = {element.text for element in drawn.iter() if element.tag.endswith("text")}
    assert {"a < b", RECIPE, "prediction=clean", "times.mean=-1.0"} <= texts


def test_grids_stand_side_by_side_with_the_titles_of_rows_once(tmp_path):
    grids = {}
    for name, seed in (("seed-0", 0), ("prediction-clean+seed-0", 0), ("seed-1", 1)):
        make_run(tmp_path / name, 1.0, seed=seed)
        images = torch.full((6, 1, 8, 8), 40 * len(grids), dtype=torch.uint8)
        grids[name] = grid(images, columns=3, titles=["one", "a longer one"])
        save_png(grids[name], tmp_path / name / "samples" / "ema_00000001.png")
    sheet = side_by_side(tmp_path, {RECIPE: "as it is", "prediction=clean": "clean"})
    first, second = grids["seed-0"], grids["prediction-clean+seed-0"]
    alone = grid(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), columns=3).width
    images = second.crop((second.width - alone, 0, *second.size))
    top = sheet.height - first.height

    def same(left: int, picture: Image.Image) -> bool:
        box = (left, top, left + picture.width, sheet.height)
        return ImageChops.difference(sheet.crop(box), picture).getbbox() is None

    assert same(0, first)
    assert same(sheet.width - alone, images)
    assert sheet.width < first.width + second.width
    with pytest.raises(SystemExit, match="no finished run of seed 0: times"):
        side_by_side(tmp_path, {"times=uniform": "uniform"})
