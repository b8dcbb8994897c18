"""The commands as a user starts them, beside the other cases: they take a while to start."""

import math
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ccdiff.runs.checkpoints import load_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.log import read_metrics
from tests.cli import TINY, call, rarely
from tests.gpu.bench import ROOT, Bench

__all__ = ["Command", "Started", "start", "started"]

_HELD = ("denoiser", "ema", "optimizer", "rng", "loss_sum")
"""Of a checkpoint, what must be the same bit for bit."""


@dataclass
class Command:
    """A command that runs beside this process.

    Arguments:
        pid: Of its process.
        printed: File of all that it prints.
    """

    pid: int
    printed: Path
    status: int | None = None
    process: subprocess.Popen | None = field(default=None, repr=False)

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        if self.status is None and self.process is not None:
            self.status = self.process.poll()
        elif self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def wait(self, seconds: float) -> int | None:
        """Waits so long at most; returns its exit status, or None where it still runs."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        return self.status

    def kill(self) -> None:
        """Ends it by SIGKILL, as a machine that takes itself away does."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(10)

    def tail(self, lines: int = 3) -> str:
        """The last lines of what it printed."""
        if not self.printed.exists():
            return f"nothing printed, status {self.status}"
        text = self.printed.read_text(errors="replace").strip()
        return " / ".join(text.split("\n")[-lines:])


def start(bench: Bench, name: str, script: str, *arguments: str) -> Command:
    """Starts ``python <script> <arguments>``, or ``python -m``.

    In miniature it is a fork of this process, which has imported everything; a process that uses
    a GPU cannot be forked.
    """
    printed = bench.scratch / f"{name}.printed"
    if bench.miniature and not bench.cuda:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
                done = call(script, *arguments, cwd=bench.scratch)
                printed.write_text(done.printed)
                status = done.status
            except BaseException:
                printed.write_text(traceback.format_exc())
            finally:
                os._exit(status)
        return Command(pid, printed)
    program = [str(ROOT / script)] if script.endswith(".py") else ["-m", script]
    with printed.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=bench.scratch,
            env=bench.environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return Command(process.pid, printed, process=process)


@dataclass
class Started:
    """The commands that run beside the cases.

    Arguments:
        whole: A training with the defaults.
        unharmed: A deterministic training that nobody kills.
        killed: The same, to be killed in its midst.
    """

    whole: Command | None
    unharmed: Command | None
    killed: Command | None

    def look(self, bench: Bench) -> None:
        """Waits for them and looks at what they left."""
        bench.case(self.resumes_after_a_kill, needs=5)
        bench.case(self.trains_and_draws, needs=5)
        bench.case(talks_to_itself, needs=10, name="NCCL" if bench.cuda else "gloo")

    def commands(self) -> list[Command]:
        """All of them."""
        return [one for one in (self.whole, self.unharmed, self.killed) if one is not None]

    def resumes_after_a_kill(self, bench: Bench) -> None:
        """A run that is killed and taken up again ends as one that is not, bit for bit."""
        folders = [bench.scratch / name for name in ("unharmed", "killed")]
        steps = _steps(bench)
        bench.expect(
            "the run to be killed was killed in its midst",
            self.killed.wait(1) == -signal.SIGKILL
            and not Run(folders[1]).checkpoint(steps).exists(),
            told=f"status {self.killed.status}, {len(Run(folders[1]).checkpoints())} checkpoints",
        )
        again = start(bench, "again", "train.py", *_deterministic(bench, "killed"))
        try:
            ended = again.wait(bench.remaining()), self.unharmed.wait(bench.remaining())
        finally:
            again.kill()
        told = f"{again.tail()} {self.unharmed.tail()}" if any(ended) else ""
        if not bench.expect("both runs end", ended == (0, 0), told=told):
            return
        one, other = (load_checkpoint(Run(folder).checkpoint(steps)) for folder in folders)
        for key in _HELD:
            bench.expect(f"{key} is the same bit for bit", _same(one[key], other[key]))
        losses = [
            [
                (row["step"], row["train/loss"])
                for row in read_metrics(Run(f).metrics)
                if "train/loss" in row
            ]
            for f in folders
        ]
        bench.expect("logged losses are the same", losses[0] == losses[1] and bool(losses[0]))

    def trains_and_draws(self, bench: Bench) -> None:
        """``train.py`` with the defaults, then ``sample.py``: in the log, in files, in time."""
        status = self.whole.wait(bench.remaining())
        printed = self.whole.printed.read_text() if self.whole.printed.exists() else ""
        bench.log(printed[-3000:])
        bench.expect("train.py ends well", status == 0, told=self.whole.tail() if status else "")
        if status:
            return
        if bench.cuda:
            bench.expect(
                "auto takes the GPU, bfloat16 and the compiler",
                all(
                    found in printed
                    for found in ("training on cuda", "in bfloat16", "compiling the network")
                ),
            )
        run = Run(bench.scratch / "whole")
        rows = [row for row in read_metrics(run.metrics) if "train/loss" in row]
        first, last = rows[0]["train/loss"], rows[-1]["train/loss"]
        right = math.isfinite(last) if bench.miniature else last < first
        bench.expect("its loss falls", right, told=f"{first:.4f} to {last:.4f}")
        out = bench.scratch / "drawn"
        drawing = start(
            bench,
            "draw",
            "sample.py",
            f"run={run.path}",
            "labels=[3,7]",
            "num_per_label=2",
            f"device={bench.device}",
            "sampler.steps=4",
            f"out={out}",
        )
        status = drawing.wait(bench.remaining())
        drawing.kill()
        pictures = sorted(path.name for path in out.glob("*.png")) if out.is_dir() else []
        told = drawing.tail() if status else ", ".join(pictures)
        bench.expect("sample.py draws", status == 0 and bool(pictures), told=told)


def _steps(bench: Bench) -> int:
    return 4 if bench.miniature else 400


def _deterministic(bench: Bench, name: str) -> list[str]:
    """Arguments of a run whose bits do not depend on chance."""
    steps = _steps(bench)
    swept = ("steps=", "_every=", "device=")
    kept = [argument for argument in TINY if not any(part in argument for part in swept)]
    every = [f"trainer.{what}_every={steps}" for what in ("heldout", "sample")]
    return [
        *kept,
        *every,
        f"trainer.checkpoint_every={steps // 2}",
        "sampler.steps=2",
        f"trainer.log_every={max(1, steps // 8)}",
        "evaluate.every=0",
        f"trainer.steps={steps}",
        f"trainer.device={bench.device}",
        "trainer.deterministic=true",
        "trainer.compile=none",
        "model.dropout=0.1",
        "tracker=none",
        "resume=auto",
        f"hydra.run.dir={bench.scratch / name}",
    ]


def _same(one: object, other: object) -> bool:
    """Whether nested containers hold the same, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


@contextmanager
def started(bench: Bench) -> Iterator[Started]:
    """Within, the commands run; one of them is killed once it has left its first checkpoint."""
    train = "train.py"
    tiny = (
        (*TINY, *rarely(2), "trainer.log_every=1")
        if bench.miniature
        else (
            "trainer.steps=300",
            "trainer.log_every=50",
            "trainer.heldout_every=150",
            "trainer.sample_every=150",
            "trainer.checkpoint_every=150",
            "evaluate.every=0",
        )
    )
    whole = [*tiny, "tracker=none", f"hydra.run.dir={bench.scratch / 'whole'}"]
    running = Started(whole=None, unharmed=None, killed=None)
    if bench.wants("trains and draws"):
        running.whole = start(bench, "whole", train, *whole)
    stop = _nothing
    if bench.wants("resumes after a kill"):
        running.unharmed = start(bench, "unharmed", train, *_deterministic(bench, "unharmed"))
        killed = start(bench, "killed", train, *_deterministic(bench, "killed"))
        running.killed = killed
        stop = _in_thread(lambda: _kill_at_a_checkpoint(killed, Run(bench.scratch / "killed")))
    try:
        yield running
    finally:
        for command in running.commands():
            command.kill()
        stop()


def _kill_at_a_checkpoint(command: Command, run: Run) -> None:
    """Waits for the first checkpoint and kills at once."""
    while command.poll() is None:
        if run.checkpoints():
            command.kill()
            return
        time.sleep(0.002)


def _nothing() -> None:
    pass


def _in_thread(work: Callable[[], None]) -> Callable[[], None]:
    """Starts work beside this one; returns what waits for it."""
    from threading import Thread

    thread = Thread(target=work, daemon=True)
    thread.start()
    return lambda: thread.join(5)


def talks_to_itself(bench: Bench) -> None:
    """One process as a group: sums, objects and DistributedDataParallel leave all as it is."""
    command = start(bench, "alone", "tests.gpu.correct.alone", str(bench.device))
    status = command.wait(min(90.0, bench.remaining() + 5))
    command.kill()
    printed = command.printed.read_text() if command.printed.exists() else ""
    bench.log(printed[-3000:])
    lines = [line for line in printed.splitlines() if line.startswith("= ")]
    for line in lines:
        name, _, verdict = line[2:].rpartition(": ")
        bench.expect(name, verdict == "True", told=verdict)
    told = "" if status == 0 else command.tail()[-300:]
    bench.expect("a group of one process ends well", status == 0 and len(lines) == 6, told=told)
