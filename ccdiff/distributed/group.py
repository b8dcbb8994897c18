"""Many processes working as one: a thin layer over torch.distributed, for one process nothing.

Imports no torch by itself: commands ask for their rank before they have parsed.
"""

import gc
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from ccdiff.distributed.failures import Failures
from ccdiff.distributed.ranks import adopted_slurm, is_main, local_rank, rank, world_size
from ccdiff.errors import UserError

__all__ = [
    "LostContact",
    "agreed",
    "ask_main",
    "asked_of_main",
    "barrier",
    "broadcast",
    "contact",
    "failures",
    "first",
    "gather",
    "process_group",
    "sum_tensor_",
]

T = TypeVar("T")

_PAUSE, _LOOK_SECONDS = 0.1, 1.0
_ASKED = "asked"


class LostContact(UserError):
    """Another process has ended, or has not answered in time."""


@dataclass
class _Together:
    """What the processes share while a group is open."""

    control: Any
    """A group for objects and numbers on the CPU, by gloo."""
    store: Any
    """Keys and values at the launcher, which outlives every process."""
    timeout_seconds: float
    barriers: int = 0
    """How many this process has come to."""
    next_look: float = 0.0
    """When to look up again what others ask."""


_together: _Together | None = None
_failures = Failures()


def failures() -> Failures:
    """What is known of the end of processes, by the group that is open or was the last to be."""
    return _failures


@contextmanager
def process_group(device_name: str, *, timeout_seconds: float) -> Iterator[str]:
    """Lets the processes talk to each other inside; on one process does nothing.

    Arguments:
        device_name: auto, cpu or cuda; the GPU of a process is that of its local rank.
        timeout_seconds: How long to wait for another process.

    Yields:
        The name of this process's device.

    Raises:
        UserError: Where there is no device for it, or the others cannot be reached.
    """
    global _together, _failures
    if world_size() == 1:
        yield device_name
        return
    import torch
    import torch.distributed as dist

    # DistributedDataParallel imports it, and arguments of its functions default to the group that
    # is open then. They would hold it past its end, whose threads can abort an exiting process.
    import torch.distributed.nn

    timeout = timedelta(seconds=timeout_seconds)
    with _contact(timeout_seconds):
        store, _, _ = next(dist.rendezvous("env://", timeout=timeout))
        # The launcher's store outlives processes; those that it restarts must not find the
        # addresses, nor the last words, of those before.
        start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"start_{start}", store)
        own_store = dist.PrefixStore("ccdiff", store)
        _failures = Failures(own_store)
        # After the store is there, by which the others hear of what is wrong here.
        device_name = _own_device(device_name)
        if device_name != "cpu":
            torch.cuda.set_device(device_name)
        dist.init_process_group(
            "gloo" if device_name == "cpu" else "nccl",
            store=store,
            rank=rank(),
            world_size=world_size(),
            timeout=timeout,
        )
        # Objects and flags go by the CPU, so that nothing of it waits for a GPU.
        control = (
            dist.group.WORLD
            if device_name == "cpu"
            else dist.new_group(backend="gloo", timeout=timeout)
        )
    _together = _Together(control, own_store, timeout_seconds)
    # With NCCL it waits for what the others no longer send; the end of the process does not.
    orderly = device_name == "cpu"
    try:
        with _contact(timeout_seconds):
            yield device_name
        orderly = True
    except BaseException as error:
        if not isinstance(error, LostContact):
            _failures.leave_word(error)
        # What is left of the work holds connections open, and the others wait for them to close.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        raise
    finally:
        _together = None
        if orderly:
            dist.destroy_process_group()


def _own_device(name: str) -> str:
    """The device of this process; where there is none the others are told."""
    try:
        return _device_of(name)
    except UserError as error:
        _failures.leave_word(error)
        raise


def _device_of(name: str) -> str:
    """``cpu``, or ``cuda:<local rank>``."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"with {world_size()} processes the device must be auto, cpu or cuda, got {name!r}: "
            f"each process takes a GPU of its own"
        )
    count = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and count == 0):
        return "cpu"
    # SLURM may show each task its own GPU alone.
    if count == 1 and adopted_slurm():
        return "cuda:0"
    # All processes of a machine find the same, so that rank 0 can tell it for all.
    here = int(os.environ.get("LOCAL_WORLD_SIZE", local_rank() + 1))
    if here > count:
        raise UserError(
            f"process {here - 1} of this machine has no GPU: torch sees {count}. Start as many "
            f"processes as there are GPUs: --nproc_per_node={max(count, 1)}"
        )
    return f"cuda:{local_rank()}"


@contextmanager
def _contact(timeout_seconds: float) -> Iterator[None]:
    """Says what went wrong where another process does not answer."""
    import torch.distributed as dist

    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise LostContact(_failures.cause() or _guess(str(error), timeout_seconds)) from error


@contextmanager
def contact() -> Iterator[None]:
    """Around what talks to other processes by itself: names the cause where they are gone."""
    if _together is None:
        yield
        return
    with _contact(_together.timeout_seconds):
        yield


def _guess(error: str, timeout_seconds: float) -> str:
    """What to make of an error of torch.distributed."""
    me = f"rank {rank()} of {world_size()}"
    first = error.splitlines()[0] if error else "no reason given"
    if "connection" in error.lower() and "timed out" not in error.lower():
        return f"{me} lost contact with another process, which has ended: see why there ({first})"
    missing = " and ".join(f"rank {other}" for other in _missing()) or "another process"
    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return (
        f"{me} waited {timeout_seconds:.0f} s for {missing} ({first}). Are all processes running, "
        f"and do they reach {where}? Where one may take longer, raise trainer.dist_timeout"
    )


def broadcast(value: T) -> T:
    """The ``value`` of rank 0, on all ranks; others may give None."""
    if _together is None:
        return value
    import torch
    import torch.distributed as dist

    box = [value]
    with _contact(_together.timeout_seconds):
        dist.broadcast_object_list(box, group=_together.control, device=torch.device("cpu"))
    return box[0]


def gather(value: T) -> list[T]:
    """The values of all ranks in order, on rank 0; elsewhere an empty list."""
    if _together is None:
        return [value]
    import torch.distributed as dist

    values: list[Any] | None = [None] * world_size() if is_main() else None
    with _contact(_together.timeout_seconds):
        dist.gather_object(value, values, group=_together.control)
    return values or []


def sum_tensor_(tensor: Any) -> Any:
    """Adds up a tensor of torch over all ranks, in place, and returns it."""
    if _together is None:
        return tensor
    import torch.distributed as dist

    with _contact(_together.timeout_seconds):
        dist.all_reduce(tensor, group=None if tensor.is_cuda else _together.control)
    return tensor


def agreed(value: T | None) -> T | None:
    """What the lowest rank gives that gives something, on all ranks alike.

    Costs one small message where none does, so that it may be asked at every step.
    """
    if _together is None:
        return value
    import torch

    if not sum_tensor_(torch.tensor(float(value is not None))):
        return None
    found = [one for one in gather(value) if one is not None]
    return broadcast(found[0] if is_main() else None)


@contextmanager
def first(mine: bool) -> Iterator[None]:
    """Lets some processes go first, which keep on disk what the others then find there.

    Arguments:
        mine: Whether this process is one of them.
    """
    if not mine:
        barrier()
    yield
    if mine:
        barrier()


def barrier(meanwhile: Callable[[], None] | None = None) -> None:
    """Waits for all ranks; a time-out names those that are missing.

    Arguments:
        meanwhile: Called ten times a second until all are there; signals are heard then, too.
    """
    if _together is None:
        return
    import torch
    import torch.distributed as dist

    _together.barriers += 1
    _together.store.set(f"barrier/{rank()}", str(_together.barriers))
    # Not monitored_barrier, which does not notice that another process is gone.
    with _contact(_together.timeout_seconds):
        work = dist.all_reduce(torch.zeros(1), group=_together.control, async_op=True)
        while meanwhile is not None and not work.is_completed():
            meanwhile()
            time.sleep(_PAUSE)
        work.wait()


def ask_main(reason: str) -> None:
    """Lets rank 0 know, in the midst of what it does alone, why to stop."""
    if _together is not None:
        _together.store.set(_ASKED, f"rank {rank()} {reason}")


def asked_of_main() -> str | None:
    """What another rank has told rank 0 by :func:`ask_main`; looked up once a second at most."""
    if _together is None or not is_main() or time.monotonic() < _together.next_look:
        return None
    _together.next_look = time.monotonic() + _LOOK_SECONDS
    if not _together.store.check([_ASKED]):
        return None
    return str(_together.store.get(_ASKED).decode())


def _missing() -> list[int]:
    """The ranks that have passed fewer barriers than this one has come to."""
    if _together is None or _together.barriers == 0:
        return []
    keys = [f"barrier/{other}" for other in range(world_size())]
    return [
        other
        for other, key in enumerate(keys)
        if not _together.store.check([key]) or int(_together.store.get(key)) < _together.barriers
    ]
