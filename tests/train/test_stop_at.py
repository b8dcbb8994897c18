"""A run that ends where it is good enough: what its record says, and what goes on from it."""

import json
import re
from pathlib import Path

import pytest
from cli import call, rarely, succeed

from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from ccdiff.runs.record import read_record

GOAL = "label_agreement_exact>=0.3"
ARGUMENTS = (
    *("data=gaussians", "data.n=800", "model=mlp", "model.width=32", "model.depth=1"),
    *("trainer.precision=fp32", "trainer.device=cpu", "trainer.samples_per_label=1"),
    *("trainer.warmup=0", "optimizer.lr=1e-2", "sampler.steps=5", "tracker=none"),
    *("evaluate.every=15", "evaluate.images=60", "evaluate.steps=8"),
    *rarely(150),
)
KEY = "evaluate/label_agreement_exact"


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stop_at")
    arguments = (f"trainer.stop_at='{GOAL}'", "hydra.run.dir=run", "resume=auto")
    done = succeed("train.py", *ARGUMENTS, *arguments, cwd=folder)
    assert "label_agreement_exact >= 0.3 was reached at step" in done.printed
    return folder / "run"


def test_it_ends_at_the_first_look_that_is_sure(ended):
    rows = read_metrics(ended / "metrics.jsonl")
    looks = {row["step"]: row for row in rows if KEY in row}
    record = read_record(Run(ended))
    *before, last = looks
    assert record.step == last < 150
    assert all(looks[step][f"{KEY}_low"] < 0.3 for step in before)
    assert looks[last][f"{KEY}_low"] >= 0.3
    assert looks[last][f"{KEY}_low"] <= looks[last][KEY] <= looks[last][f"{KEY}_high"]
    # All that a run leaves at its last step is there.
    assert (ended / "checkpoints" / f"step_{last:08d}.pt").exists()
    assert (ended / "samples" / "denoising.gif").exists()
    assert record.status == "finished"
    assert record.result == next(r["heldout/eps_mse"] for r in rows if "heldout/eps_mse" in r)


def test_the_record_says_what_it_cost_to_get_there(ended):
    looks = {r["step"]: r for r in read_metrics(ended / "metrics.jsonl") if KEY in r}
    record = json.loads((ended / "record.json").read_text())
    *before, last = looks
    found = record["reached"]
    step = float(last)
    if before:
        low, high = (looks[s][f"{KEY}_low"] for s in (before[-1], last))
        step = before[-1] + (0.3 - low) / (high - low) * (last - before[-1])
    assert found["step"] == pytest.approx(step)
    assert found["images"] == pytest.approx(128 * step)
    assert found["flops"] == pytest.approx(128 * step * record["flops_per_image"])
    assert 0 < found["seconds"] <= record["training_seconds"] + 0.01
    assert found["cpu_seconds"] > 0
    assert found["device_seconds"] is None


def test_the_same_command_leaves_it_alone_and_another_goal_goes_on(ended):
    folder, before = ended.parent, (ended / "record.json").read_bytes()
    same = (*ARGUMENTS, f"trainer.stop_at='{GOAL}'", "hydra.run.dir=run")
    again = succeed("train.py", *same, "resume=auto", cwd=folder).printed
    assert re.search("finished earlier: .* steps in .* s, trainer.stop_at reached", again)
    done = call("train.py", "resume=run", cwd=folder)
    assert done.status == 1
    assert "has reached label_agreement_exact>=0.3" in done.printed
    assert (ended / "record.json").read_bytes() == before
    costs = ("run", "reach=label_agreement_exact>=0.2", "by=cpu_seconds")
    assert "CPU seconds" in succeed("ccdiff.compare", *costs, cwd=folder).printed


def test_what_is_never_reached_is_said_and_nothing_is_made_up(tmp_path):
    """And a run that goes on to another goal has no trace of one that it did not reach."""
    never = "trainer.stop_at='label_agreement_exact>=0.9 and fd_exact_to_heldout<1e-9'"
    short = (*rarely(6), "evaluate.every=3", "hydra.run.dir=run")
    done = succeed("train.py", *ARGUMENTS, *short, never, cwd=tmp_path)
    assert "fd_exact_to_heldout < 1e-09 was not reached: label_agreement_exact" in done.printed
    record = read_record(Run(tmp_path / "run"))
    assert (record.status, record.step, record.reached) == ("finished", 6, None)
    assert record.line.endswith(", trainer.stop_at not reached")
    easy = ("trainer.stop_at='heldout/eps_mse<50'", "trainer.steps=12", "trainer.heldout_every=3")
    succeed("train.py", "resume=run", *easy, cwd=tmp_path)
    record = read_record(Run(tmp_path / "run"))
    assert (record.step, record.reached["step"]) == (9, 9)


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        ("label_agrement_exact>=0.9", "did you mean label_agreement_exact"),
        ("label_agreement_classifier>=0.9", "did you mean label_agreement_exact"),
        ("train/loss<0.1", "logs no train/loss with an interval"),
        ("label_agreement_exact=0.9", "is no figure with"),
        ("label_agreement_exact>=0.99", "of evaluate.images=60 samples"),
    ],
)
def test_a_mistyped_goal_is_refused_before_training(tmp_path, goal, told):
    done = call("train.py", *ARGUMENTS, f"trainer.stop_at='{goal}'", cwd=tmp_path)
    assert done.status == 1
    assert told in done.printed
    assert "training points" not in done.printed
    assert "Traceback" not in done.printed
