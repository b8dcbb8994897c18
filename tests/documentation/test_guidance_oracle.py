"""The page on sampling states what guidance does to exact models: as computed, and by laws."""

from pathlib import Path

import pytest

from tests.documentation.guidance_oracle import CASES, draw, outcome, table
from tests.documentation.pages import ROOT


def test_the_page_states_the_table_that_the_code_computes():
    assert table(CASES) in (ROOT / "docs" / "sampling.md").read_text()


@pytest.mark.parametrize("classes", CASES, ids=lambda classes: classes.title)
@pytest.mark.parametrize("k", [0, 1])
def test_guidance_of_scale_one_is_the_class_itself(classes, k):
    found = outcome(classes, k, 1.0)
    assert found.mean == pytest.approx(classes.means[k], abs=5e-3)
    assert found.std == pytest.approx(classes.stds[k], rel=5e-3)


def test_the_picture_is_drawn(tmp_path: Path):
    draw(CASES[:1], tmp_path / "guidance.svg")
    assert (tmp_path / "guidance.svg").read_text().startswith("<?xml")
