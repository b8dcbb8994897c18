"""The bench itself: what a case does ends no other, and every row is on disk at once."""

import json
import time

import pytest
import torch

from tests.gpu.__main__ import WEIGHTS, parse
from tests.gpu.bench import Bench


@pytest.fixture
def bench(tmp_path):
    return Bench(device=torch.device("cpu"), out=tmp_path, seconds=60, head={"device": "none"})


def rows(bench):
    return [json.loads(line) for line in (bench.out / "rows.jsonl").read_text().splitlines()]


def test_a_case_that_raises_ends_no_other_and_leaves_its_traceback(bench):
    def broken(bench):
        bench.row("before", images=3)
        raise RuntimeError("the cable is out")

    assert not bench.case(broken)
    assert bench.case(lambda bench: bench.check("after", 0.5, at_most=1.0), name="good")
    assert [row["case"] for row in rows(bench)] == ["head", "before", "broken", "after"]
    assert "the cable is out" in rows(bench)[2]["told"]
    assert "def" not in rows(bench)[2]["told"]
    assert "Traceback" in (bench.out / "log.txt").read_text()
    assert [row["case"] for row in bench.failures()] == ["broken"]


@pytest.mark.parametrize(("value", "outcome"), [(1.0, "passed"), (1.1, "FAILED")])
def test_a_figure_is_held_to_its_bound(bench, value, outcome):
    bench.check("error", value, at_most=1.0)
    assert rows(bench)[-1]["outcome"] == outcome


def test_no_number_is_within_a_bound(bench):
    assert not bench.check("error", float("nan"), at_most=1.0)
    assert bench.failures()


def test_what_there_is_no_time_or_no_device_for_is_told(bench):
    ran = []
    bench.case(ran.append, needs=61, name="long")
    bench.case(ran.append, cuda=True, name="on a GPU")
    assert not ran
    assert [row["outcome"] for row in rows(bench)[1:]] == ["skipped", "needs CUDA"]
    assert not bench.failures()


def test_a_case_is_cut_off_where_the_time_of_its_part_is_over(bench, monkeypatch):
    monkeypatch.setattr("tests.gpu.bench._GRACE", 0.0)

    def endless(bench):
        try:
            while True:
                time.sleep(0.01)
        except Exception:  # As a library would; it must not stop what cuts it off.
            pass

    with bench.in_part("speed", share=0.3 / 60):
        assert not bench.case(endless, needs=0)
    assert rows(bench)[-1]["outcome"] == "cut off"
    assert rows(bench)[-1]["part"] == "speed"
    assert bench.remaining() > 50


def test_what_a_part_leaves_is_shared_among_those_after_it(bench):
    with bench.in_part("one", share=0.25):
        assert 14 < bench.remaining() <= 15
    with bench.in_part("two", share=1.0):
        assert 59 < bench.remaining() <= 60


def test_settings_of_torch_are_put_back(bench):
    def change(bench):
        torch.use_deterministic_algorithms(True)
        torch.backends.cuda.matmul.allow_tf32 = not torch.backends.cuda.matmul.allow_tf32

    before = torch.backends.cuda.matmul.allow_tf32
    bench.case(change)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_rows_of_like_figures_share_a_table(bench):
    bench.row("a", images_per_second=1234.5, mfu=0.41)
    bench.row("b", images_per_second=99.0, mfu=None)
    bench.row("c", note="a|b")
    table = (bench.out / "table.md").read_text()
    assert "- device: none" in table
    assert "| case | images per second | mfu |\n|---|---|---|\n| a | 1234 | 0.41 |\n" in table
    assert "| b | 99 |  |\n" in table
    assert "| case | note |\n|---|---|\n| c | a\\|b |" in table


def test_parts_run_in_order_of_value(tmp_path):
    assert parse(["cifar10", "correct", f"out={tmp_path}"]).parts == ("correct", "cifar10")
    assert parse(["all", f"out={tmp_path}", "minutes=3"]).parts == tuple(WEIGHTS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fast", "out=o"],
        ["all"],
        ["out=o", "minutes=x"],
        ["out=o", "data=/none"],
        ["out=o", "a=1"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_told(arguments):
    with pytest.raises(SystemExit, match="error: "):
        parse(arguments)
