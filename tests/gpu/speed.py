"""How fast it is: training steps and samples, beside two other libraries, and near which peak.

All cases are in processes of their own, which compile at the same time; then each is timed while
the others wait. So compiling takes as long as the slowest of them, and what is timed is alone, but
where one still compiles when half of the time is over, which its row says.
"""

import multiprocessing
import os
import threading
import time
from dataclasses import replace
from importlib.util import find_spec
from unittest.mock import patch

from ccdiff.settings import Compile
from tests.gpu.bench import ROOT, Bench
from tests.gpu.timed import Case, serve

__all__ = ["FAST", "PACKAGES", "cases", "run"]

FAST = "cifar10_fast, training"
"""The case whose images per second tell the part ``cifar10`` how many steps it has time for."""

_AT_ONCE = 3
"""Processes that compile at the same time; each has some threads of its own for it."""
_SHARE = 0.55
"""Of the time, after which those that are ready are timed beside what still compiles."""
_LEAST = 6.0
"""Seconds that must be left to begin to time a case that has only now become ready."""
_TINY = (
    *("model.channels=[8,16]", "model.bottleneck=16", "model.attention=[false,true]"),
    *("model.head_channels=8", "model.groups=4", "model.embed_dim=16"),
)
_FAST = ("experiment=cifar10_fast",)
_LARGE = ("model=unet_large",)
_VIT = ("model=vit_base",)
PACKAGES = {"diffusers": "diffusers", "ddpm": "denoising_diffusion_pytorch"}
"""What other kinds of cases need."""
_GOALS = {
    "mfu": [("unet_large, 256 px, batch 8", 0.5), ("unet_large, 32 px, batch 512", 0.4)],
    "beside diffusers": ("unet_large, 32 px, batch 512", "diffusers, 32 px, batch 512", 1.5),
    "seconds for 50,000": ("cifar10_fast, 10 calls, compiled", 60.0),
}


def cases() -> list[Case]:
    """All, the most valuable first."""
    draw = {"kind": "sampling", "overrides": _FAST, "batch": 1000, "images": 50_000}
    large = {"kind": "ours", "overrides": _LARGE}
    parts = (*_LARGE, "trainer.accumulate=4")
    found = [
        Case(name=FAST, kind="ours", overrides=_FAST),
        Case(name="unet_large, 32 px, batch 512", **large),
        Case(name="diffusers, 32 px, batch 512", kind="diffusers"),
        Case(name="unet_large, 256 px, batch 8", size=256, batch=8, **large),
        Case(name="cifar10_fast, 10 calls, compiled", calls=10, seconds=30, **draw),
        Case(name="unet_large, 32 px, batch 128", batch=128, **large),
        Case(
            name="unet_large, 32 px, batch 128, CUDA graphs",
            batch=128,
            compile=Compile.reduce_overhead,
            **large,
        ),
        Case(
            name="unet_large, 256 px, batch 32 in 4 parts",
            kind="ours",
            size=256,
            batch=32,
            overrides=parts,
        ),
        Case(
            name="denoising-diffusion-pytorch, 32 px, as it comes",
            kind="ddpm",
            compile=Compile.none,
        ),
        Case(name="cifar10_fast, 10 calls", calls=10, seconds=15, compile=Compile.none, **draw),
        Case(name="cifar10_fast, 20 calls, compiled", calls=20, seconds=20, **draw),
        # As the product trains for long: several algorithms are tried for each convolution.
        Case(
            name="unet_large, 32 px, batch 512, cuDNN's algorithms tried",
            kind="ours",
            overrides=(*_LARGE, "trainer.steps=200000"),
        ),
    ]
    if (ROOT / "conf/model/vit_base.yaml").exists():
        place = next(i for i, case in enumerate(found) if case.batch == 128)
        found.insert(
            place,
            Case(
                name="vit_base, 256 px, batch 32", kind="ours", size=256, batch=32, overrides=_VIT
            ),
        )
    return found


def miniature() -> list[Case]:
    """One of each kind of ours, with as little work as can be, on a CPU.

    Other libraries take long to import; ``tests/test_benchmarks.py``, which does, prepares them.
    """
    kinds = {
        (case.kind, "accumulate" in str(case.overrides)): case
        for case in reversed(cases())
        if case.kind not in PACKAGES
    }
    small = {"size": 8, "batch": 4, "seconds": 0.02, "compile": Compile.none, "tiny": True}
    return [
        replace(case, overrides=(*case.overrides, *_TINY), images=min(case.images, 8), **small)
        for case in reversed(kinds.values())
    ]


class _Worker:
    """A case on its way: prepares as soon as it is made, and is timed when asked to be.

    In miniature it is a thread, which takes less than a process does to begin.
    """

    def __init__(self, bench: Bench, case: Case) -> None:
        self.case = case
        self.pipe, theirs = multiprocessing.Pipe()
        self.state = "preparing"
        self.told: object = None
        kind = threading.Thread if bench.miniature else _spawning().Process
        self.runs = kind(target=serve, args=(case, bench.device, theirs))
        self.runs.start()
        if not bench.miniature:
            theirs.close()  # Ours, so that its end is noticed.

    def look(self, seconds: float = 0.0) -> str:
        """``preparing``, ``ready``, ``done`` or ``failed``, after at most so many seconds."""
        if self.state in ("done", "failed"):
            return self.state
        try:
            if self.pipe.poll(seconds):
                self.state, self.told = self.pipe.recv()
        except (EOFError, OSError):
            self.state, self.told = "failed", "its process ended without a word"
        return self.state

    def time(self, seconds: float, limit: float) -> dict[str, object]:
        """Its figures, after about so many seconds, or an error after ``limit`` of them."""
        self.pipe.send(seconds)
        until = time.monotonic() + limit
        while self.state == "ready" and time.monotonic() < until:
            self.look(0.2)
        if self.state != "done":
            raise RuntimeError(f"{self.state}: {_last_line(self.told)}")
        return dict(self.told)  # type: ignore[call-overload]

    def end(self) -> None:
        """Ends it, whatever it does."""
        if isinstance(self.runs, threading.Thread):
            if self.state == "ready":
                self.pipe.send(None)
            self.runs.join(10)
        else:
            self.runs.kill()
            self.runs.join(5)
        self.pipe.close()


def _spawning():
    return multiprocessing.get_context("spawn")  # CUDA does not survive a fork.


def _last_line(told: object) -> str:
    return str(told).strip().splitlines()[-1][:300]


def run(bench: Bench) -> None:
    """Has all prepared, times them in order of value, and sets them against the goals."""
    left = [
        case for case in (miniature() if bench.miniature else cases()) if bench.wants(case.name)
    ]
    order = [case.name for case in left]
    workers: dict[str, _Worker] = {}
    try:
        with patch.dict(os.environ, TORCHINDUCTOR_COMPILE_THREADS="4"):
            bench.case(
                lambda bench: _ready(bench, left, workers), name="the part compiles", needs=60
            )
        for name in order:
            bench.case(lambda bench, name=name: _timed(bench, workers, name), name=name)
        bench.case(_goals, needs=0)
    finally:
        for worker in workers.values():
            worker.end()


def _ready(bench: Bench, left: list[Case], workers: dict[str, _Worker]) -> None:
    """Starts the cases, some at a time, and waits until all are ready or time presses."""
    began = time.monotonic()
    until = began + _SHARE * bench.remaining()
    at_once = 1 if bench.miniature else _AT_ONCE
    waiting = list(left)
    while time.monotonic() < until or bench.miniature:
        preparing = [w for w in workers.values() if w.look() == "preparing"]
        if not (waiting or preparing):
            break
        if waiting and len(preparing) < at_once:
            case = waiting.pop(0)
            workers[case.name] = _Worker(bench, case)
        else:
            time.sleep(0.002 if bench.miniature else 0.1)
    states = [worker.state for worker in workers.values()]
    bench.row(
        "all compile",
        ready=states.count("ready"),
        failed=states.count("failed"),
        still_at_it=states.count("preparing"),
        not_begun=len(waiting),
        seconds=time.monotonic() - began,
    )


def _timed(bench: Bench, workers: dict[str, _Worker], name: str) -> None:
    """Times a case, once it is ready."""
    worker = workers.get(name)
    if worker is None:
        bench.row(name, outcome="skipped", told="there was no time to begin it")
        return
    case = worker.case
    package = PACKAGES.get(case.kind)
    if package and find_spec(package) is None:
        bench.row(name, outcome="skipped", told=f"{package} is not installed here")
        return
    while worker.look(0.1) == "preparing" and bench.remaining() > _LEAST:
        pass
    if worker.state == "preparing":
        worker.end()
        bench.row(name, outcome="skipped", told="it was not ready in time")
        return
    if worker.state != "ready":
        bench.log(f"{name}: {worker.told}")
        raise RuntimeError(_last_line(worker.told))
    seconds = min(case.seconds, max(1.0, bench.remaining() - 5))
    others = [w for w in workers.values() if w is not worker and w.look() == "preparing"]
    found = worker.time(seconds, limit=2 * seconds + 60)
    worker.end()  # Its memory is free for the others.
    bench.row(name, **found, alone=not others)


def _goals(bench: Bench) -> None:
    """Sets what was measured against what was aimed at."""
    found = {row["case"]: row for row in bench.rows if row["part"] == "speed"}

    def figure(case: str, name: str) -> float | None:
        return found.get(case, {}).get(name)

    for case, goal in _GOALS["mfu"]:
        _goal(bench, f"MFU of {case}", figure(case, "mfu"), goal, least=True)
    ours, theirs, goal = _GOALS["beside diffusers"]
    pair = [figure(case, "images_per_second") for case in (ours, theirs)]
    ratio = None if None in pair else pair[0] / pair[1]
    _goal(bench, "images/s, times diffusers, 32 px, batch 512", ratio, goal, least=True)
    case, goal = _GOALS["seconds for 50,000"]
    seconds = figure(case, "seconds_for_50000")
    _goal(bench, "seconds for 50,000 images in 10 calls", seconds, goal, least=False)


def _goal(bench: Bench, name: str, value: float | None, goal: float, *, least: bool) -> None:
    if value is None:
        bench.row(f"goal: {name}", value="not measured", goal=goal, met="")
        return
    met = value >= goal if least else value <= goal
    bench.row(f"goal: {name}", value=value, goal=goal, met=met)
