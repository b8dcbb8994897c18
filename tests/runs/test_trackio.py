"""trackio keeps what a run tells it, on this machine: the real package, without a network."""

import json
import logging
import sys
from pathlib import Path

import pytest
from cli import TINY, rarely, succeed

from ccdiff.errors import UserError
from ccdiff.runs.tracker import RunInfo
from ccdiff.runs.trackio import TrackioTracker
from ccdiff.system.stopping import Preempted

trackio = pytest.importorskip("trackio")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of trackio's own, which it otherwise chooses when it is imported."""
    kept = tmp_path / "trackio"
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    for module in [module for name, module in sys.modules.items() if name.startswith("trackio")]:
        for name in ("TRACKIO_DIR", "MEDIA_DIR"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, kept / "media" if "MEDIA" in name else kept)
    return kept


def only_run():
    (run,) = trackio.Api().runs("ccdiff")
    return run


def logged(run) -> list[dict]:
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage.get_logs("ccdiff", run.name)


def info(path: Path, **more) -> RunInfo:
    told = {"config": {"optimizer/lr": 1e-3, "_wandb": {}}, "name": "a/b <i>", "group": None}
    return RunInfo(path=path, tags=("x=1",), **{**told, **more})


def test_a_run_is_kept_with_figures_pictures_and_its_config(tmp_path, folder):
    out = tmp_path / "run"
    arguments = (*TINY, *rarely(2), "tracker=trackio", f"hydra.run.dir={out}")
    done = succeed("train.py", *arguments, cwd=tmp_path)
    assert 'trackio show --project "ccdiff"' in done.printed
    assert "* " not in done.printed, "trackio's own lines would break the bar"
    run = only_run()
    assert run.config["model"] == "unet_mnist"
    assert run.config["optimizer/lr"] == 2e-3
    assert json.loads((out / "record.json").read_text())["tracker_id"] == run.name
    rows = logged(run)
    ours = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    (loss,) = [row["train/loss"] for row in rows if "train/loss" in row]
    assert loss == ours[0]["train/loss"]
    shown = {key: row[key] for row in rows for key in row if key.startswith("samples/")}
    assert shown.keys() == {"samples/raw", "samples/ema", "samples/denoising"}
    for media in shown.values():
        assert (folder / "media" / media["file_path"]).stat().st_size > 100
    assert not run.alerts()

    succeed("train.py", f"resume={out}", "trainer.steps=4", *rarely(4)[1:], cwd=tmp_path)
    assert only_run().name == run.name
    assert {row["step"] for row in logged(run)} == {2, 4}


def test_a_run_that_fails_or_is_stopped_says_so(tmp_path):
    def fail() -> None:
        with TrackioTracker(project="ccdiff").session(info(tmp_path)) as session:
            known.append(session.tracker_id)
            session.metrics({"train/loss": 1.0}, step=1)
            raise RuntimeError("no memory\nleft")

    known: list[str] = []
    with pytest.raises(RuntimeError):
        fail()
    (told,) = only_run().alerts()
    assert (told["title"], told["text"], told["level"]) == ("failed", "no memory", "error")
    again = info(tmp_path, tracker_id=known[0])
    with pytest.raises(Preempted), TrackioTracker(project="ccdiff").session(again):
        raise Preempted("signal 15: saved at step 1")
    assert {alert["title"] for alert in only_run().alerts()} == {"failed", "stopped"}


def test_tables_and_names_are_plain_text(tmp_path, folder):
    with TrackioTracker(project="ccdiff").session(info(tmp_path)) as session:
        session.table("t", [["label", "n"], ["<b>[x](y)", 3.5]], step=1)
    run = only_run()
    assert run.name.startswith("a_b _i_-")
    (table,) = [row["t"] for row in logged(run) if "t" in row]
    assert table["_value"] == [{"label": r"\<b\>\[x\]\(y\)", "n": 3.5}]
    assert run.config["config_wandb"] == {}
    assert run.config["tags"] == ["x=1"]


@pytest.mark.parametrize("project", ["", "a/b", "../x", "registry-x", "m_configs", "x" * 80])
def test_a_name_that_is_refused_is_one_clear_error(tmp_path, project):
    with (
        pytest.raises(UserError, match=r"tracker\.project"),
        TrackioTracker(project=project).session(info(tmp_path)),
    ):
        pass


def test_without_trackio_it_is_refused(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match="pip install trackio"):
        TrackioTracker(project="ccdiff")
