"""Kills and stops tiny runs at random moments, resumes each, and compares with one unharmed.

``python tests/faults.py <kills> <stops> <seed> <folder>`` prints one JSON object. Every attempt is
a fork of this process, which has imported everything, so it costs a fraction of a second. SIGKILL
comes from outside after a random time, or at a random call that writes, syncs, renames or removes;
half of the times, as half of the SIGTERMs, in the midst of a hook: of a measurement, a drawing, or
the training of the judge's classifier.
"""

import functools
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from cli import ROOT, TINY
from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf, RuntimeConf
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ccdiff.config import schema
from ccdiff.data import Digits
from ccdiff.metrics import classifier
from ccdiff.runs.checkpoints import load_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from ccdiff.system import stopping
from ccdiff.system.atomic import HashingWriter
from ccdiff.train import assembly
from ccdiff.train import job as experiment
from ccdiff.training import loop
from ccdiff.training.monitor.timing import PARTS
from ccdiff.training.operations import Size

STEPS = 7
ARGUMENTS = (
    *(argument for argument in TINY if "steps=" not in argument and "_every" not in argument),
    f"trainer.steps={STEPS}",
    "trainer.log_every=3",
    "trainer.heldout_every=4",
    "trainer.sample_every=6",
    "trainer.checkpoint_every=2",
    "trainer.precision=fp32",
    "trainer.accumulate=2",
    "trainer.cooldown=0",
    "trainer.samples_per_label=1",
    "sampler.steps=1",
    "model.channels=[8]",
    "model.attention=[false]",
    "model.bottleneck=8",
    "model.num_blocks=1",
    "model.dropout=0.1",
    "tracker=none",
    "resume=auto",
)
WRITES = 6100
OTHER_CALLS = 36
"""About how many calls of a run write a checkpoint, and sync, rename or remove files."""
LOOKING = (loop, classifier)
"""Modules that heed a signal in the midst of a hook."""
KILLS = ("kill at a time", "kill at a write", "kill at a sync", *["kill at a look"] * 3)
STOPS = ("stop at a time", "stop at a look") * 3
TIMINGS = {
    *("train/images_per_second", "train/seconds", "train/cpu_seconds"),
    *("train/flops_per_second", "train/mfu"),
    *(f"time/{part}" for part in PARTS),
}


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """The config of all runs."""
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return schema.typed(compose("train", [*ARGUMENTS, *overrides]), schema.TrainConfig)


def train(cfg: DictConfig, folder: Path, **changes: object) -> float:
    """Trains a run in ``folder``, or goes on with it; changes name keys with ``__`` for dots."""
    cfg = cfg.copy()
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value)
    job = HydraConf(runtime=RuntimeConf(output_dir=str(folder)), mode=RunMode.RUN)
    return experiment.run_experiment(cfg, job)


def kill_self_at(call: int, names: list[tuple[object, str]]) -> None:
    """Arranges for SIGKILL just before or after the given call of any of the functions."""
    left = call

    def tick() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            tick()
            done = function(*args, **kwargs)
            tick()
            return done

        return wrapper

    for owner, name in names:
        setattr(owner, name, counted(getattr(owner, name)))


def signal_self_at(look: int, number: signal.Signals, note: Path) -> None:
    """Arranges for a signal in the midst of a hook, and for a note of when it came."""
    left = itertools.count(1)

    def heed() -> None:
        if next(left) == look:
            note.write_text(str(time.monotonic()))
            os.kill(os.getpid(), number)
        stopping.heed()

    for module in LOOKING:
        module.heed = heed


def attempt(
    cfg: DictConfig, folder: Path, chance: random.Random, *, kind: str, seconds: float, looks: int
) -> tuple[int, float]:
    """One attempt to finish the run.

    Returns:
        How the process ended, as os.waitpid tells it, and how long after a SIGTERM it did.
    """
    delay, note = chance.uniform(0, seconds), folder.parent / "note"
    write, other = chance.randint(1, 2 * WRITES), chance.randint(1, 2 * OTHER_CALLS)
    look = chance.randint(1, looks)
    number = signal.SIGTERM if kind.startswith("stop") else signal.SIGKILL
    note.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if kind == "kill at a write":
                kill_self_at(write, [(HashingWriter, "write")])
            elif kind == "kill at a sync":
                kill_self_at(other, [(os, name) for name in ("fsync", "replace", "unlink")])
            elif kind.endswith("look"):
                signal_self_at(look, number, note)
            train(cfg, folder)
            status = 0
        except stopping.Preempted:
            status = stopping.EXIT_STATUS
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if kind.endswith("time"):
        time.sleep(delay)
        note.write_text(str(time.monotonic()))
        os.kill(child, number)
    ended = os.waitpid(child, 0)[1]
    sent = float(note.read_text()) if note.exists() else time.monotonic()
    return ended, time.monotonic() - sent


def outcome(folder: Path) -> tuple[dict, list[dict]]:
    """All that must not depend on kills."""
    checkpoint = load_checkpoint(Run(folder).checkpoint(STEPS))
    rows = read_metrics(Run(folder).metrics)
    plain = [{key: row[key] for key in row if key not in TIMINGS} for row in rows]
    held = ("denoiser", "ema", "optimizer", "rng", "pending")
    return {key: checkpoint[key] for key in held}, plain


def same(one: object, other: object) -> bool:
    """Whether nested containers hold the same, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def main(kills: int, stops: int, seed: int, folder: Path) -> dict:
    """Makes runs until they were killed and stopped often enough; each is resumed to its end."""
    torch.set_num_threads(1)
    # What no kill can harm is done once for all children.
    Digits.read = functools.cache(Digits.read)
    assembly.measure = lambda denoiser, objective, split, *, place: Size(1, 1, 1)
    classifier._IMAGES_SEEN = 256
    cfg = composed("evaluate.every=4", "evaluate.images=20", "evaluate.steps=2")
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    train(cfg, folder / "whole", evaluate__cache=str(folder / "whole_cache"))
    expected = outcome(folder / "whole")
    looks = itertools.count()
    for module in LOOKING:
        module.heed = lambda: next(looks) and None
    started = time.perf_counter()
    train(cfg, folder / "timed", evaluate__cache=str(folder / "timed_cache"))
    seconds, num_looks = time.perf_counter() - started, next(looks)
    for module in LOOKING:
        module.heed = stopping.heed
    report = {
        **{"kills": 0, "kills_at_a_look": 0, "stops": 0, "stops_at_a_look": 0, "resumed": 0},
        **{"inside_a_save": 0, "runs": 0, "different": [], "longest_answer_seconds": 0.0},
    }
    while report["kills"] < kills or report["stops"] < stops:
        run = folder / f"run{report['runs']}"
        cfg.evaluate.cache = str(folder / f"cache{report['runs']}")
        while True:
            kinds = [
                "none",
                *KILLS * (report["kills"] < kills),
                *STOPS * (report["stops"] < stops),
            ]
            kind = chance.choice(kinds)
            ended, took = attempt(cfg, run, chance, kind=kind, seconds=seconds, looks=num_looks)
            killed = os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL
            stopped = not killed and ended != 0 and kind.startswith("stop")
            if not (killed or stopped):
                break
            what = "kills" if killed else "stops"
            report[what] += 1
            report[f"{what}_at_a_look"] += kind.endswith("look")
            if stopped:
                report["longest_answer_seconds"] = max(report["longest_answer_seconds"], took)
                assert os.waitstatus_to_exitcode(ended) in (stopping.EXIT_STATUS, -signal.SIGTERM)
            report["inside_a_save"] += bool(list(run.glob("checkpoints/.*.partial")))
            report["resumed"] += bool(Run(run).checkpoints())
        report["runs"] += 1
        if ended or not same(outcome(run), expected):
            report["different"].append(run.name)
        else:
            shutil.rmtree(run)
    report["seconds"] = round(time.perf_counter() - started, 1)
    return report


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))))
