"""What a launch has to do, decided from what is there and what was asked for."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from faults import composed
from omegaconf import OmegaConf

from ccdiff.config.build import plain
from ccdiff.config.differences import config_hash
from ccdiff.errors import UserError
from ccdiff.runs.record import Record
from ccdiff.train.resuming import Finished, Found, Start, check_config, decide
from ccdiff.train.titles import run_title

ASKED = 6


def asked(**changes):
    """The config of a launch that asks for six steps."""
    cfg = composed().copy()
    for key, value in {"trainer__steps": ASKED, "resume": None, **changes}.items():
        OmegaConf.update(cfg, key.replace("__", "."), value)
    return cfg


def checkpoint(step: int, *, pending=(), **changes) -> dict:
    config = OmegaConf.to_yaml(asked(**changes), resolve=True)
    return {"step": step, "pending": list(pending), "config": config}


def record(status: str, step: int, **changes) -> Record:
    digest = config_hash(plain(asked(**changes)))
    result = 0.5 if status == "finished" else None
    return Record(digest, {}, seeds={}, status=status, step=step, result=result)


def found(*, sweep=False, newest=None, opened=None) -> Found:
    """A folder with its newest checkpoint; ``opened`` notes when one is read."""

    def read():
        assert newest is not None, "there is none to read"
        if opened is not None:
            opened.append(newest)
        return newest

    return Found(
        path=Path("the/run"),
        sweep=sweep,
        config=plain(asked()),
        holds_checkpoints=newest is not None,
        open_checkpoint=read,
    )


HALF, WHOLE, MORE = checkpoint(3), checkpoint(6), checkpoint(9)
LEFT = checkpoint(6, pending=["grids"])
AUTO, NAMED = {"resume": "auto"}, {"resume": "the/run"}


@pytest.mark.parametrize(
    ("run", "left", "changes", "step"),
    [
        ({}, None, {}, None),
        ({}, record("failed", 0), {}, None),
        ({}, None, AUTO, None),
        ({}, record("failed", 0, seed=1), AUTO, None),
        ({"newest": HALF}, record("interrupted", 3), AUTO, 3),
        ({"newest": HALF}, None, AUTO, 3),
        ({"newest": HALF}, record("running", 0), AUTO, 3),
        ({"newest": HALF}, record("finished", 3), AUTO, 3),
        ({"newest": LEFT}, record("interrupted", 6), AUTO, 6),
        ({"newest": HALF}, record("finished", 9), NAMED, 3),
        ({"newest": LEFT}, record("interrupted", 6), NAMED, 6),
        ({"sweep": True}, None, {}, None),
        ({"sweep": True, "newest": HALF}, record("interrupted", 3), {}, 3),
        ({"sweep": True, "newest": LEFT}, record("interrupted", 6), {}, 6),
    ],
)
def test_what_is_left_is_trained_from_where_it_stopped(run, left, changes, step):
    start = decide(found(**run), left, asked(**changes))
    assert isinstance(start, Start)
    taken = start.take()
    assert (taken and taken["step"]) == step
    assert start.checkpoint is None, "kept in memory as long as training lasts"
    # Where nothing is left but the record of a failure, the run is a new one; a sweep's is not.
    assert start.same_run == (step is not None or run.get("sweep", False))


@pytest.mark.parametrize("sweep", [False, True])
def test_what_is_finished_is_not_even_opened(sweep):
    opened: list = []
    run = found(sweep=sweep, newest=WHOLE, opened=opened)
    assert decide(run, record("finished", 6), asked(**AUTO)) == Finished(
        reason="finished earlier: heldout/eps_mse 0.5000  6 steps in 0 s", result=0.5
    )
    assert opened == []


@pytest.mark.parametrize("left", [None, record("running", 3), record("interrupted", 6)])
def test_a_run_that_was_killed_before_it_noted_its_end_is_finished(left):
    done = decide(found(newest=WHOLE), left, asked(**AUTO))
    assert done == Finished(reason="the/run has taken all its 6 steps", result=None)


@pytest.mark.parametrize(
    ("run", "left", "changes", "message"),
    [
        ({"newest": HALF}, None, {}, "already holds a run: go on with it by resume=the/run"),
        ({"newest": WHOLE}, record("finished", 6), NAMED, "all its 6 steps; to go on"),
        # A result of more steps is another one.
        ({"newest": MORE}, record("finished", 9), AUTO, "9 steps already.*steps=6.*run.dir"),
        ({"newest": MORE}, record("running", 0), AUTO, "9 steps already"),
        ({"newest": MORE}, None, NAMED, "9 steps already"),
        ({"newest": MORE, "sweep": True}, record("finished", 9), {}, "9 steps.*sweep.dir"),
        # So is that of another config.
        (
            {"newest": WHOLE},
            record("finished", 6, seed=1),
            {**AUTO, "optimizer__weight_decay": 0.5},
            r"weight_decay=0.5 \(there 0.01\)",
        ),
        (
            {"newest": WHOLE},
            record("finished", 6),
            {**AUTO, "seed": 1},
            r"another config: seed=1 \(there 0\); pass another hydra.run.dir",
        ),
        (
            {"newest": HALF, "sweep": True},
            record("interrupted", 3),
            {"seed": 1},
            r"another config: seed=1 \(there 0\); pass another hydra.sweep.dir",
        ),
    ],
)
def test_what_was_not_asked_for_is_refused(run, left, changes, message):
    with pytest.raises(UserError, match=message):
        decide(found(**run), left, asked(**changes))


def test_how_a_finished_run_was_watched_does_not_matter():
    changes = {"trainer__sample_every": 3, "trainer__keep": 9}
    done = decide(found(newest=WHOLE), record("finished", 6), asked(**AUTO, **changes))
    assert done.result == 0.5


@pytest.mark.parametrize(
    ("taken", "before", "now", "warned"),
    [(3, 6, 12, False), (4, 6, 12, True), (3, 12, 6, False), (6, 12, 8, False), (6, 12, 6, True)],
)
def test_steps_that_were_cooled_down_for_another_length_are_told(
    taken, before, now, warned, caplog
):
    cooled = {"trainer__cooldown": 3 if before == 6 else 2}
    old = checkpoint(taken, trainer__steps=before, **cooled)
    with caplog.at_level(logging.WARNING, "ccdiff"):
        check_config(old, asked(trainer__steps=now, **cooled))
    assert ("this will not be the run of" in caplog.text) == warned
    if warned:
        level = min(before, now) - cooled["trainer__cooldown"]
        assert f"from a checkpoint of step {level} or earlier" in caplog.text


def test_a_run_is_titled_by_what_it_is():
    choices = {"data": "mnist", "model": "unet_mnist", "schedule": "linear"}
    overrides = [
        *("data=mnist", "schedule=linear", "seed=1", "hydra.run.dir=x", "tracker=none"),
        *("trainer.steps=5", "trainer.device=cpu", "seed=2", "+trainer.keep=1"),
    ]
    assert run_title(choices, overrides) == (
        "mnist unet_mnist, schedule=linear, seed=2, trainer.steps=5"
    )
    assert run_title(choices, []) == "mnist unet_mnist"


def test_records_are_left_as_they_are():
    left = record("interrupted", 3)
    before = replace(left)
    decide(found(newest=HALF), left, asked(**AUTO))
    assert left == before
