"""Jobs in processes of their own, so many at once, until a time is over; outcomes as they come."""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, TypeVar

__all__ = ["Outcome", "outcomes"]

Job = TypeVar("Job")
_PATIENCE = 5.0
"""Seconds between looks at the clock while nobody is ready."""


class Outcome(NamedTuple):
    """What became of a job.

    Arguments:
        job: Its number.
        result: What it gave; None where it failed, was cut off or never began.
        error: Why; empty where it gave something.
        seconds: From its start to its end.
    """

    job: int
    result: Any
    error: str
    seconds: float


def _call(work: Callable[[Job], Any], job: Job, end: Connection) -> None:
    try:
        end.send((work(job), ""))
    except Exception:
        end.send((None, traceback.format_exc()))


def outcomes(
    work: Callable[[Job], Any],
    jobs: Sequence[Job],
    *,
    workers: int,
    seconds: float,
    needs: float = 0.0,
    start: str = "forkserver",
    preload: Sequence[str] = (),
) -> Iterator[Outcome]:
    """What becomes of each job, in the order in which they end.

    A process that dies ends its job alone. Once time is over, those that run are killed.

    Arguments:
        work: Of a module that another process can import.
        jobs: In order of value.
        workers: How many at once.
        seconds: For all of it.
        needs: Seconds that a job takes, about; none is begun with fewer left. Those that have
            ended teach more.
        start: How processes begin, see :mod:`multiprocessing`.
        preload: Modules that are imported once for all of them.
    """
    context = multiprocessing.get_context(start)
    if preload:
        context.set_forkserver_preload(list(preload))
    until = time.monotonic() + seconds
    left, longest = list(range(len(jobs))), needs
    running: dict[Connection, tuple[int, BaseProcess, float]] = {}
    try:
        while left or running:
            now = time.monotonic()
            while left and len(running) < workers and until - now >= longest:
                number = left.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_call, args=(work, jobs[number], theirs))
                process.start()
                theirs.close()
                running[ours] = (number, process, now)
            if not running or now >= until:
                break
            for end in wait(list(running), timeout=min(_PATIENCE, until - now)):
                number, process, began = running.pop(end)
                outcome = _outcome(end, number, process, time.monotonic() - began)
                longest = max(longest, outcome.seconds)
                yield outcome
    finally:
        for _, process, _ in running.values():
            process.kill()
    for number, _, began in running.values():
        yield Outcome(number, None, "cut off: out of time", time.monotonic() - began)
    for number in left:
        yield Outcome(number, None, "not begun: out of time", 0.0)


def _outcome(end: Any, number: int, process: BaseProcess, seconds: float) -> Outcome:
    try:
        result, error = end.recv()
    except EOFError:
        process.join()
        result, error = None, f"its process ended with {process.exitcode}"
    end.close()
    process.join()
    return Outcome(number, result, error, seconds)
