"""What draws the page on the study, on runs written by hand."""

import math
import statistics
from pathlib import Path
from xml.etree import ElementTree

import pytest
from omegaconf import OmegaConf

from ccdiff.runs.folder import Run
from ccdiff.runs.log import RunLog
from ccdiff.runs.record import FAILED, FINISHED, Record
from ccdiff.runs.tracker import NoSession
from tests.documentation.study import RECIPE, markdown, noise, picture, read, rows_of

DISTANCES = {"seed-{}": 10.0, "prediction-clean+seed-{}": 3.0, "times.mean--1.0+seed-{}": 10.5}


def make_run(folder: Path, distance: float, *, seed: int, status: str = FINISHED) -> None:
    folder.mkdir(parents=True)
    run = Run(folder)
    OmegaConf.save({"seed": seed}, run.config)
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
