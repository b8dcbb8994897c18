"""Samples and evaluations on many processes: the same to the last bit as on one."""

import errno
import io
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from cli import ROOT, TINY, Done, call, rarely, succeed
from PIL import Image
from processes import launch
from tqdm import tqdm

from ccdiff.errors import UserError
from ccdiff.evaluate import job as evaluate_run
from ccdiff.evaluate import shards as evaluate_shards
from ccdiff.generation.pipeline import Pipeline
from ccdiff.generation.turns import Advance, by_turns, parts_of
from ccdiff.sample import job as sampling
from ccdiff.system.locks import locked
from tests.evaluate.test_evaluate import untrained

# More rows than the film shows, in batches of which the last is smaller and one is half shown.
LABELS = "labels=[0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7]"
SAMPLE = (LABELS, "num_per_label=2", "batch_size=7", "sampler.steps=3", "precision=fp32")
EVALUATE = (
    "n=47",
    "batch_size=10",
    "sampler.steps=2",
    "precision=fp32",
    "heldout_images=64",
    "likelihood_images=0",
)


@pytest.fixture(scope="module", autouse=True)
def quick_classifier():
    """No classifier is trained: that has its own tests."""
    with patch("ccdiff.metrics.classifier.train_classifier", untrained):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("turns")
    succeed("train.py", *TINY, *rarely(2), "tracker=none", "hydra.run.dir=outputs/one", cwd=folder)
    return folder / "outputs" / "one"


def contents(folder: Path) -> dict[str, bytes]:
    """All files, of pictures the pixels: a picture keeps the command, which names the folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): Image.open(path).tobytes()
        if path.suffix == ".png"
        else path.read_bytes()
        for path in files
    }


@pytest.fixture(scope="module")
def drawn_by_one(run) -> dict[str, bytes]:
    out = run.parent / "by_one"
    succeed("sample.py", f"run={run}", f"out={out}", *SAMPLE, "device=cpu", cwd=run)
    return contents(out)


class Closed(io.StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_lines_beside_the_bar_outlive_a_closed_pipe(monkeypatch, capsys):
    left: list[bool] = []
    monkeypatch.setattr("ccdiff.system.console.leave_closed_pipe", lambda: left.append(True))
    monkeypatch.setattr(sys, "stdout", Closed())
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(sys.stdout)])
    drawn = list(by_turns([range(2)], lambda *_: root.warning("the model is odd")))
    assert drawn == [(range(2), None)]
    assert left == [True]
    assert "Traceback" not in capsys.readouterr().err


def test_the_bar_counts_steps_and_not_batches(monkeypatch):
    shown: list[list[int]] = []
    told = 5

    class Bar(tqdm):
        def update(self, n: float = 1) -> None:
            self.n += n
            shown[-1].append(self.n)

    monkeypatch.setattr("ccdiff.generation.turns.tqdm", Bar)

    def work(part: range, advance: Advance) -> range:
        shown.append([])
        for _ in range(told):
            advance(len(part))
        return part

    parts = [range(4), range(4, 6)]
    assert list(by_turns(parts, work, before=10, steps=5)) == [(p, p) for p in parts]
    assert shown[0][:2] == [54, 58]
    assert [bar[-1] for bar in shown] == [70, 80]
    told = 2  # Where a part tells less than it was to, all of it counts.
    shown.clear()
    list(by_turns(parts, work, before=10, steps=5))
    assert [bar[-1] for bar in shown] == [70, 80]


def test_samples_are_the_same_for_any_number_of_processes(run, drawn_by_one):
    world = 4
    cwd = run.parent / f"world_{world}"
    ended = launch(world, "sample.py", f"run={run}", *SAMPLE, "device=auto", cwd=cwd)
    assert [done.status for done in ended] == [0] * world, ended
    (out,) = (run / "generated").iterdir()
    out = out.rename(run.parent / f"by_{world}")
    assert contents(out) == drawn_by_one
    assert "36 samples are in" in ended[0].printed
    assert [done.printed for done in ended[1:]] == [""] * (world - 1)
    assert not list(cwd.iterdir())


def test_an_automatic_batch_leaves_nobody_idle(run, tmp_path):
    few = (f"run={run}", "labels=[3,7,1]", "num_per_label=1", "sampler.steps=3", "precision=fp32")
    ended = launch(2, "sample.py", *few, f"out={tmp_path}/two", "device=cpu", cwd=run.parent)
    assert [done.status for done in ended] == [0, 0], ended
    assert "drawing 2 images at a time" in ended[0].printed
    done = succeed("sample.py", *few, f"out={tmp_path}/one", "device=cpu", cwd=run.parent)
    assert "drawing 3 images at a time" in done.printed
    two, one = (np.load(tmp_path / name / "samples.npz")["images"] for name in ("two", "one"))
    # Another batch may round differently in the last bit of a convolution.
    assert abs(two.astype(int) - one).max() <= 1


def evaluated(run: Path, name: str, *arguments: str, world: int = 1, before=None) -> list[Done]:
    arguments = (f"run={run}", f"name={name}", *EVALUATE, "device=cpu", *arguments)
    if world > 1:
        before = before or (lambda rank: None)
        return launch(world, "ccdiff.evaluate", *arguments, cwd=run.parent, before=before)
    return [succeed("ccdiff.evaluate", *arguments, cwd=run.parent)]


@pytest.fixture(scope="module")
def judged_by_one(run) -> dict[str, bytes]:
    evaluated(run, "by_one")
    return kept(run, "by_one")


def kept(run: Path, name: str) -> dict[str, bytes]:
    """All samples, features and figures of an evaluation."""
    folder = run / "evaluation" / name
    found = contents(folder)
    return {k: v for k, v in found.items() if k.startswith("samples/") or k == "metrics.json"}


def test_an_evaluation_killed_on_two_processes_is_completed_by_one(run, judged_by_one):
    def die_at_the_second_part(rank: int) -> None:
        calls = []
        whole = Pipeline.__call__

        def dying(self, *arguments, **settings):
            calls.append(arguments)
            if rank == 1 and len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(self, *arguments, **settings)

        Pipeline.__call__ = dying

    first, second = evaluated(run, "killed", world=2, before=die_at_the_second_part)
    assert (first.status, second.status) == (1, -signal.SIGKILL)
    assert "Traceback" not in first.printed
    assert "another process, which has ended" in first.printed
    left = kept(run, "killed")
    # The first has done its second part, whatever the other was writing when it was killed.
    assert "samples/00000020-00000030.pt" in left
    assert "samples/00000030-00000040.pt" not in left
    assert "metrics.json" not in left
    (done,) = evaluated(run, "killed")
    assert re.search("[23]0 samples are there already", done.printed)
    assert kept(run, "killed") == judged_by_one


def test_an_evaluation_begun_by_one_process_is_completed_by_four(run, judged_by_one):
    evaluated(run, "begun", "n=20")
    ended = evaluated(run, "begun", world=4)
    assert [done.status for done in ended] == [0] * 4, ended
    assert "20 samples are there already" in ended[0].printed
    assert "47/47 samples" in ended[0].printed
    assert kept(run, "begun") == judged_by_one


def refuse(holder: str) -> None:
    raise UserError(f"held by {holder}")


def test_one_command_at_a_time_evaluates_in_a_folder(run, judged_by_one, monkeypatch):
    """What another one is writing is not removed as if it had been left by one that was killed."""
    folder = run / "evaluation" / "by_one"
    unfinished = folder / "samples" / ".00000050-00000060.pt.partial"
    unfinished.write_bytes(b"half")
    with locked(folder / ".lock", busy=refuse):
        arguments = (f"run={run}", "name=by_one", *EVALUATE, "device=cpu")
        ended = launch(2, "ccdiff.evaluate", *arguments, cwd=run.parent)
    assert [done.status for done in ended] == [1, 1]
    assert f"being written by another evaluation (process {os.getpid()}" in ended[0].printed
    assert not any("Traceback" in done.printed for done in ended)
    assert unfinished.exists()
    # The lock is held from the first look at the folder to the last word in it.
    held = []

    def watch(owner, name):
        plain = getattr(owner, name)

        def watched(*arguments, **settings):
            with pytest.raises(UserError, match="held by"), locked(folder / ".lock", busy=refuse):
                pass
            held.append(name)
            return plain(*arguments, **settings)

        monkeypatch.setattr(owner, name, watched)

    watch(evaluate_shards.Shards, "_tidied")
    watch(evaluate_run, "_write")
    evaluated(run, "by_one")
    assert held == ["_tidied", "_write"]
    assert not unfinished.exists()
    assert kept(run, "by_one") == judged_by_one


def fill_disk(*arguments: object, **settings: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_ends_one_process_is_told_by_the_first(run):
    def fill(rank: int) -> None:
        if rank == 1:
            evaluate_shards.keep = fill_disk

    ended = evaluated(run, "full", world=2, before=fill)
    assert [done.status for done in ended] == [1, 1]
    assert "rank 1 failed" in ended[0].printed
    assert "No space left on device" in ended[0].printed
    assert "Traceback" not in ended[0].printed


def test_a_picture_that_cannot_be_written_is_told_and_nothing_is_called_done(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr(sampling, "save_png", fill_disk)
    done = call("sample.py", f"run={run}", f"out={tmp_path}/full", *SAMPLE, "device=cpu", cwd=run)
    assert done.status == 1
    assert "No space left on device" in done.printed
    assert "Traceback" not in done.printed
    assert not (tmp_path / "full" / "samples.npz").exists()


def test_parts_are_all_numbers_in_order():
    assert parts_of(range(3, 10), 3) == [range(3, 6), range(6, 9), range(9, 10)]
    assert parts_of(range(0), 3) == []


@pytest.mark.slow
def test_torchrun_draws_and_evaluates_the_same(run, drawn_by_one, tmp_path):
    def torchrun(world: int, *arguments: str) -> None:
        command = ["torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]
        done = subprocess.run(
            [sys.executable, "-m", *command, *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    for world in (1, 2, 4):
        out = tmp_path / f"by_{world}"
        given = (f"run={run}", f"out={out}", *SAMPLE, "device=cpu")
        torchrun(world, str(ROOT / "sample.py"), *given)
        assert contents(out) == drawn_by_one
    for world in (1, 2):
        given = (f"run={run}", f"name=torchrun_{world}", *EVALUATE, "device=cpu")
        torchrun(world, "-m", "ccdiff.evaluate", *given)
    assert kept(run, "torchrun_1") == kept(run, "torchrun_2")
