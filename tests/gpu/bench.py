"""The bench on which cases run: each is caught, timed, bounded and written down at once.

A part is a module with ``def run(bench: Bench) -> None``, which hands its cases over in order of
value, the most valuable first::

    def step(bench: Bench) -> None:
        seconds = ...
        bench.row("unet_large 32 px", images_per_second=128 / seconds, mfu=0.41)  # a figure
        bench.check("loss is that of the CPU", difference, at_most=1e-4)  # a figure with a bound
        bench.expect("no wait", waits == 0, told=f"{waits} waits")  # a fact

    def run(bench: Bench) -> None:
        bench.case(step, needs=20)               # skipped where fewer than 20 s are left
        bench.case(other, bench, needs=5, cuda=True, name="another name")

Nothing that a case does ends another one: what it raises goes into its row, with the traceback
into the log, and the settings of torch that a case changed are put back.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.gpu.table import markdown

__all__ = ["ROOT", "Bench", "OutOfTime"]

ROOT = Path(__file__).resolve().parents[2]
"""The folder of train.py, conf/ and tests/."""

_GRACE = 5.0
"""Seconds that a case may go on after the time of its part is over."""


class OutOfTime(BaseException):
    """The time of the part is over in the midst of a case; not an Exception, lest it be caught."""


@dataclass(kw_only=True)
class Bench:
    """Where cases run and what they leave.

    Arguments:
        device: Where to compute: ``cuda`` or ``cpu``.
        out: Folder of ``rows.jsonl`` (one JSON object per row, flushed as it comes), ``table.md``
            (written anew after each row) and ``log.txt`` (tracebacks, output of commands); a part
            may leave pictures there, few and small, in no folder below.
        seconds: How long the whole may take.
        miniature: Whether to run the whole of it as small as can be, to see that it runs.
        carried: Folder of what was collected by ``python -m tests.gpu.carry``, or None.
        data: Folder of CIFAR-10 as its authors distribute it, or None.
        head: What the figures were taken with: device, versions, date, commit, command.
        only: Words; where there are some, cases whose name has none of them are passed over.
    """

    device: torch.device
    out: Path
    seconds: float
    miniature: bool = False
    carried: Path | None = None
    data: Path | None = None
    head: Mapping[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    part: str = field(default="", init=False)
    rows: list[dict] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.out = self.out.absolute()
        self.out.mkdir(parents=True, exist_ok=True)
        self.scratch = Path(tempfile.mkdtemp(prefix="ccdiff-gpu-"))
        """A folder for runs and data, which is not kept."""
        self._started = time.monotonic()
        self._until = self._started + self.seconds
        self._case = ""
        with self._rows_file.open("a") as file:
            file.write(json.dumps({"part": "", "case": "head", **self.head}) + "\n")

    @property
    def cuda(self) -> bool:
        """Whether there is a GPU to work on."""
        return self.device.type == "cuda"

    @property
    def _rows_file(self) -> Path:
        return self.out / "rows.jsonl"

    def remaining(self) -> float:
        """Seconds that are left to the part that runs; never negative."""
        return max(0.0, self._until - time.monotonic())

    def total_remaining(self) -> float:
        """Seconds that are left to all parts together."""
        return max(0.0, self._started + self.seconds - time.monotonic())

    @contextmanager
    def in_part(self, name: str, share: float) -> Iterator[None]:
        """Within, rows are of the part ``name``, which may take a share of the time that is left.

        Arguments:
            name: Of the part.
            share: In (0, 1]; what an earlier part left is shared among those after it.
        """
        self.part = name
        self._until = time.monotonic() + share * self.total_remaining()
        try:
            yield
        finally:
            self.part, self._until = "", self._started + self.seconds

    def row(self, case: str, **figures: object) -> None:
        """Writes down figures of a case: numbers, texts, booleans.

        Arguments:
            case: What they are of. Rows that follow each other with the same names of figures
                become one table.
            figures: By name, with the unit in it: ``images_per_second``, ``peak_gib``.
        """
        row = {"part": self.part, "case": case, **figures, "at": round(self._now(), 1)}
        self.rows.append(row)
        with self._rows_file.open("a") as file:
            file.write(json.dumps(row, default=str) + "\n")
            file.flush()
            os.fsync(file.fileno())
        (self.out / "table.md").write_text(markdown(self.head, self.rows))
        print(f"[{row['at']:6.1f} s] {self.part}: {case}: {_shown(figures)}", flush=True)

    def check(self, case: str, value: float, at_most: float) -> bool:
        """Writes down a figure and whether it is within its bound; a number that is none is not.

        Returns:
            Whether it is.
        """
        passed = bool(value <= at_most)
        self.row(case, outcome="passed" if passed else "FAILED", value=value, at_most=at_most)
        return passed

    def expect(self, case: str, passed: bool, *, told: str = "") -> bool:
        """Writes down whether something is as it should be, and what was found."""
        self.row(case, outcome="passed" if passed else "FAILED", told=told)
        return passed

    def case(
        self,
        work: Callable[["Bench"], object],
        *,
        needs: float = 1.0,
        cuda: bool = False,
        name: str | None = None,
    ) -> bool:
        """Runs a case; the next one runs whatever becomes of it.

        Arguments:
            work: Does it; called with this bench.
            needs: Seconds that it takes on an H100, about; with fewer left it is skipped. In
                miniature it is never skipped for want of time.
            cuda: Whether it cannot be done on a CPU at all.
            name: That of the function, unless given.

        Returns:
            Whether it ran to its end.
        """
        name = name or work.__name__.strip("_").replace("_", " ")
        if not self.wants(name):
            return False
        if cuda and not self.cuda:
            self.row(name, outcome="needs CUDA", told="")
            return False
        if not self.miniature and self.remaining() < needs:
            told = f"needs {needs:.0f} s, {self.remaining():.0f} are left"
            self.row(name, outcome="skipped", told=told)
            return False
        started = time.monotonic()
        try:
            with _alarm(self.remaining() + _GRACE), _settings_put_back():
                work(self)
            return True
        except OutOfTime:
            took = time.monotonic() - started
            self.row(name, outcome="cut off", told=f"after {took:.0f} s, out of time")
        except Exception as error:
            self.log(f"{self.part}: {name}\n{traceback.format_exc()}")
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"
            self.row(name, outcome="ERROR", told=" ".join(told.split())[:500])
        finally:
            self.note(name, time.monotonic() - started)
            _free(self.device)
        return False

    def wants(self, name: str) -> bool:
        """Whether a case of that name is asked for; a whole part always is."""
        return not self.only or any(word in name for word in ("the part ", *self.only))

    def note(self, name: str, seconds: float) -> None:
        """Keeps how long a case took in the log."""
        self.log(f"[{self._now():6.1f} s] {self.part}: {name} took {seconds:.2f} s")

    def log(self, text: str) -> None:
        """Adds to ``log.txt``."""
        with (self.out / "log.txt").open("a") as file:
            file.write(text.rstrip() + "\n")

    def python(
        self, *arguments: str, timeout: float | None = None, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs ``python <arguments>`` with this interpreter and waits for it.

        Arguments:
            arguments: Such as ``str(ROOT / "train.py"), "tracker=none"``.
            timeout: Seconds until it is killed; what is left of the part's time, unless given.
            cwd: The scratch folder, unless given.
            env: Added to the environment.

        Returns:
            With output and errors in ``stdout``; both go to the log too.

        Raises:
            subprocess.TimeoutExpired: Where it was killed.
        """
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd or self.scratch,
            env=self.environment(**env),
            timeout=timeout or self.remaining() + _GRACE / 2,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log(f"$ python {' '.join(arguments)} -> {done.returncode}\n{done.stdout[-4000:]}")
        return done

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a command, which finds this repository wherever it is started."""
        path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
        # Several run at a time: with all cores each, their threads wait for one another.
        threads = str(torch.get_num_threads())
        quiet = {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": threads}
        return {**os.environ, "PYTHONPATH": path, **quiet, **more}

    def failures(self) -> list[dict]:
        """Rows of what failed or could not be done for an error."""
        return [row for row in self.rows if row.get("outcome") in ("FAILED", "ERROR")]

    def _now(self) -> float:
        return time.monotonic() - self._started


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raises OutOfTime within, once so much time has passed; pytest's own alarm is left alone."""

    def ring(number: int, frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _settings_put_back() -> Iterator[None]:
    """Puts the settings of torch back that a case or the product may have changed."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    products = torch.backends.cuda.matmul.allow_tf32
    convolutions = torch.backends.cudnn.allow_tf32
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.cuda.is_initialized():
            torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.benchmark = benchmark
        torch.backends.cuda.matmul.allow_tf32 = products
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_num_threads(threads)


def _free(device: torch.device) -> None:
    """Frees what a case has left on the device."""
    if device.type != "cuda":
        return  # What it takes is a part of a second, for nothing.
    gc.collect()
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    if torch.cuda.is_initialized():
        try:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        except RuntimeError:  # A device that is broken breaks the other cases, not this one.
            pass


def _shown(figures: Mapping[str, object]) -> str:
    from tests.gpu.table import cell

    return ", ".join(f"{name} {cell(value)}" for name, value in figures.items())
