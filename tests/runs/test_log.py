"""The run's own log: nothing good is lost, nothing bad passes for a figure, all of it is JSON."""

import itertools
import json
import math

import pytest

from ccdiff.errors import UserError
from ccdiff.runs import log as runs_log
from ccdiff.runs.log import RunLog, metric_rows, read_metrics, thinned_rows
from ccdiff.runs.tracker import NoSession


class Recorder(NoSession):
    """Remembers what a tracker is given."""

    def __init__(self) -> None:
        self.given: list[dict[str, float]] = []

    def metrics(self, values, *, step):
        self.given.append(dict(values))


def written(path, lines) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


ROWS = [json.dumps({"step": step, "loss": 1.5}) for step in range(1, 12)]
BAD = [
    "not json",
    '{"step": 5, "lo',
    "[1, 2]",
    '{"loss": 1.0}',
    '{"step": "5"}',
    '{"step": null, "loss": 1}',
    "[" * 100_000,
    "\x00\x00",
    "\udc80".encode("utf-8", "surrogateescape").decode("latin-1"),
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_line_in_the_middle_costs_no_other_row(bad, tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    written(path, [*ROWS[:5], bad, *ROWS[5:]])
    assert [row["step"] for row in metric_rows(path)] == list(range(1, 12))
    assert f"line 6 of {path}" in caplog.text
    RunLog(path, NoSession(), step=10)
    assert path.read_text().splitlines() == ROWS[:10], "a resume keeps every good row as it is"
    assert (tmp_path / "metrics.jsonl.aside").read_text() == f"{bad}\n"
    assert "metrics.jsonl.aside" in caplog.text


def test_the_last_line_may_be_torn_in_silence(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join([*ROWS, '{"step": 12, "lo']))
    assert len(read_metrics(path)) == 11
    RunLog(path, NoSession(), step=20)
    assert path.read_text().splitlines() == ROWS
    assert not caplog.text
    assert not (tmp_path / "metrics.jsonl.aside").exists()


def test_a_folder_that_was_removed_meanwhile_is_told(tmp_path):
    run_log = RunLog(tmp_path / "run" / "metrics.jsonl", NoSession(), step=0)
    with pytest.raises(UserError, match="was removed while"):
        run_log.metrics({"loss": 1.0}, step=1)


def test_a_file_of_which_nothing_is_left_is_told(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text("\x00\x01")
    RunLog(path, NoSession(), step=6)
    assert "holds no figures up to step 6" in caplog.text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_and_spoils_no_tracker(value, tmp_path):
    path, session = tmp_path / "metrics.jsonl", Recorder()
    RunLog(path, session).metrics({"loss": value, "rate": 2.0}, step=1)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == {
        "step": 1,
        "loss": None,
        "rate": 2.0,
    }
    assert session.given == [{"rate": 2.0}]
    assert read_metrics(path) == [{"step": 1, "rate": 2.0}]


def test_numbers_of_earlier_versions_that_are_not_finite_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    written(path, ['{"step": 1, "a": NaN, "b": -Infinity, "c": 1e999, "d": 2, "e": "text"}'])
    assert read_metrics(path) == [{"step": 1, "d": 2}]


def test_a_missing_file_is_told_where_rows_should_be(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    RunLog(path, NoSession())
    assert not caplog.text
    RunLog(path, NoSession(), step=7)
    assert "figures before step 7 are lost" in caplog.text


def test_of_many_rows_few_are_read_and_the_ends_are_kept(tmp_path, monkeypatch):
    path, read = tmp_path / "metrics.jsonl", []
    with path.open("w") as file:
        for step in range(1, 5001):
            file.write(json.dumps({"step": step, "train/loss": step / 2}) + "\n")
            if step % 100 == 0:
                file.write(json.dumps({"step": step, "heldout/eps_mse": -step}) + "\n")
        file.write('{"step": 5001, "train/lo')
    plain = runs_log._row
    monkeypatch.setattr(runs_log, "_row", lambda text: read.append(text) or plain(text))
    rows = list(thinned_rows(path, most=60))
    steps = [row["step"] for row in rows if "train/loss" in row]
    assert steps[0] == 1
    assert steps[-1] == 5000, "the torn line stands for none"
    assert 60 <= len(steps) <= 125
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 2 * 5000 / 60
    rare = [row["step"] for row in rows if "heldout/eps_mse" in row]
    assert rare == list(range(100, 5001, 100)), "what is rare is not thinned with the rest"
    assert len(read) < 250


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_of_few_rows_all_are_read_and_bad_lines_told(bad, tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    written(path, [*ROWS[:5], bad, *ROWS[5:]])
    assert list(thinned_rows(path, most=50)) == [json.loads(row) for row in ROWS]
    assert f"line 6 of {path}" in caplog.text
