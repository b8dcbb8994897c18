"""Trains tiny runs on several processes, in ways that must all come to the same.

``python tests/ranks.py <folder> <scenario> ...`` leaves a run directory per scenario, and prints
how the processes of each ended as one JSON object. Every process is a fork of this one, as in
:mod:`processes`.
"""

import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from faults import composed, train
from processes import forked
from torch import nn

from ccdiff.data import Digits
from ccdiff.distributed.group import failures, process_group
from ccdiff.distributed.ranks import rank
from ccdiff.errors import UserError
from ccdiff.runs.folder import Run
from ccdiff.runs.record import Record, read_record
from ccdiff.system.stopping import EXIT_STATUS, Preempted, heed
from ccdiff.train import assembly
from ccdiff.training import ddp
from ccdiff.training.ddp import collect_optimizer
from ccdiff.training.monitor import timing
from ccdiff.training.operations import Size
from ccdiff.training.step import Update

STEPS, SHORT_STEPS = 20, 8
SETTINGS = {
    "trainer__steps": STEPS,
    "trainer__log_every": 1,
    "trainer__heldout_every": STEPS,
    "trainer__sample_every": STEPS,
    "trainer__checkpoint_every": 4,
    "trainer__keep": 50,
    "optimizer__lr": 3e-3,
    "trainer__accumulate": 1,
    "trainer__warmup": 0,
    # Drawn by the network on its own, so it differs with the processes that share a batch.
    "model__dropout": 0.0,
    # All that is drawn for a batch.
    "data__flip": True,
    "conditioning__drop": 0.3,
}


def launch(
    world: int, folder: Path, *, before_step: Callable | None = None, **changes
) -> list[int]:
    """Trains in ``folder`` on so many processes; how each ended.

    Arguments:
        world: Processes.
        folder: The run directory.
        before_step: Called in each process before each step, with its number.
        changes: Of the config, with ``__`` for dots.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return forked(world, lambda _: work(folder, before_step, changes))


def threads_left(rank: int) -> int:
    """How many threads of a process group are there after it; a fresh process must count them.

    What is imported first decides, so this comes before anything is trained.
    """
    with process_group("cpu", timeout_seconds=60):
        nn.parallel.DistributedDataParallel(nn.Linear(1, 1))
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return sum("gloo" in name for name in names)


def work(folder: Path, before_step: Callable | None, changes: dict) -> int:
    """What one process does; returns its exit status and leaves its error in a file."""
    os.chdir(folder)
    if before_step is not None:
        step = Update.__call__

        def watched(self):
            before_step(self.state.step)
            return step(self)

        Update.__call__ = watched
    try:
        train(composed(), folder, **changes)
    except Preempted as stopped:
        status = read_record(Run(folder)).status
        (folder / f"stopped_{rank()}").write_text(f"{status}, {stopped}")
        return EXIT_STATUS
    except Exception as error:
        silent = "silent" if failures().wait_until_told() else "tells"
        told = f"{silent} {type(error).__name__}: {error}"
        (folder / f"error_{rank()}").write_text(told)
        failures().note_told()
        return 1
    return 0


def on(number: int, step: int, action: Callable[[], object]) -> Callable[[int], None]:
    """Calls ``action`` on one rank before one step."""

    def before_step(at: int) -> None:
        if (rank(), at) == (number, step):
            action()

    return before_step


def fail() -> None:
    raise UserError("the disk of this machine is full")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def draw(at: int) -> None:
    """Keeps what a network would draw on its own in a late step."""
    if at == SHORT_STEPS - 1:
        with torch.random.fork_rng(devices=[]):
            Path(f"drawn_{rank()}").write_text(str(torch.rand(()).item()))


def ask(at: int) -> None:
    """Asks rank 1 to stop, while rank 0 takes its time to close its record."""
    if at != 6:
        return
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
        return
    write = Record.write

    def slowly(self, run):
        time.sleep(0.3)
        write(self, run)

    Record.write = slowly


def ask_in_a_hook(at: int) -> None:
    """Asks rank 1 to stop, while rank 0 is in a hook and would be for long."""
    if at != SHORT_STEPS - 1:
        return

    def linger(self, state):
        began = time.monotonic()
        while time.monotonic() < began + 60:
            heed()
            time.sleep(0.05)

    assembly.HeldOutLoss.__call__ = linger
    if rank() == 1:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()


def note_collecting(at: int) -> None:
    """Keeps in which steps rank 0 brings the optimizer together."""
    if rank() > 0:
        return
    collect = collect_optimizer

    def noted(optimizer):
        with Path("collected").open("a") as file:
            file.write(f"at {at}\n")
        collect(optimizer)

    ddp.collect_optimizer = noted


def hang() -> None:
    """Longer than the others wait; whoever kills it then is torchrun."""
    while not Path("error_0").exists():
        time.sleep(0.05)
    kill()


def ticking() -> float:
    """The time of a processor on which each look at it takes a second, on rank 1 two."""
    global ticks
    ticks += 1 + rank()
    return ticks


ticks = 0.0


def main(folder: Path, names: list[str]) -> dict[str, list[int]]:
    torch.set_num_threads(1)
    timing.time = SimpleNamespace(perf_counter=time.perf_counter, process_time=ticking)
    Digits.read = functools.cache(Digits.read)
    assembly.measure = lambda denoiser, objective, split, *, place: Size(1, 1, 1)
    assembly.matmul_peak = lambda device, dtype: 1e12
    ends = {"leaving": [forked(2, threads_left)]} if "leaving" in names else {}
    # In this process, so that the others find imported what is imported late.
    train(composed(), folder / "one", **SETTINGS)
    for name in filter(SCENARIOS.get, names):
        settings, launches = SCENARIOS[name]
        for world, changes, before_step in launches:
            given = {**settings, **changes}
            ended = launch(world, folder / name, before_step=before_step, **given)
            ends.setdefault(name, []).append(ended)
    return ends


def divided(steps: int) -> dict[str, object]:
    return {"trainer__shard": "zero1", "trainer__steps": steps}


LONG = {key: value for key, value in SETTINGS.items() if key != "trainer__steps"}
SHORT = {
    **SETTINGS,
    "trainer__steps": SHORT_STEPS,
    "trainer__checkpoint_every": 4,
    "model__dropout": 0.1,
}
SCENARIOS = {
    "two": (SETTINGS, [(2, {}, None)]),
    "four": (SETTINGS | {"trainer__accumulate": 2}, [(4, {}, None)]),
    # Taken up with other numbers of processes, with a divided optimizer and without.
    "changing": (
        LONG,
        [
            (2, divided(8), note_collecting),
            (4, divided(12), None),
            (1, {"trainer__steps": 16}, None),
            (2, divided(STEPS), None),
        ],
    ),
    "short": (SHORT, [(2, {}, draw)]),
    "killed": (SHORT, [(2, {}, on(1, 6, kill)), (2, {}, None)]),
    "signalled": (SHORT, [(2, {}, ask), (2, {}, None)]),
    "asked": (SHORT, [(2, {}, ask_in_a_hook), (2, {}, None)]),
    "failing": (SHORT, [(2, {}, on(1, 6, fail))]),
    "hanging": (SHORT | {"trainer__dist_timeout": 20.0}, [(2, {}, on(1, 6, hang))]),
    "diverging": (
        SHORT | {"trainer__on_nonfinite": "rollback", "trainer__checkpoint_every": 1},
        [(2, {"optimizer__lr": 1e30}, None)],
    ),
}
"""Settings, and launches one after the other: processes, changes, what happens."""

ENDS = {
    **{name: [[0, 0]] for name in ("leaving", "two", "short")},
    "four": [[0] * 4],
    "changing": [[0, 0], [0] * 4, [0], [0, 0]],
    "killed": [[1, -signal.SIGKILL], [0, 0]],
    "signalled": [[EXIT_STATUS, EXIT_STATUS], [0, 0]],
    "asked": [[EXIT_STATUS, EXIT_STATUS], [0, 0]],
    "failing": [[1, 1]],
    "hanging": [[1, -signal.SIGKILL]],
    "diverging": [[1, 1]],
}
"""How the processes of each launch must end."""


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:])))
