"""Files that let one process at a time do something; a killed one leaves no lock behind."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

__all__ = ["locked"]

log = logging.getLogger(__name__)

_TRIES, _PAUSE = 10, 0.1


@contextmanager
def locked(path: Path, *, busy: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock ``path`` for as long as the context is open.

    Where the system or the file system has no locks, it lets everybody in and says so.

    Arguments:
        path: A file in a folder that is there.
        busy: Called with the name of the process that holds the lock, where one does: it raises
            what refuses, or returns to wait.
    """
    with path.open("a+") as file:
        if not _take_soon(file):
            file.seek(0)
            busy(file.read().strip())
            _take(file, wait=True)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _take_soon(file: TextIO) -> bool:
    """Tries for a moment, since a lock can outlive a process that was killed.

    A program that it was just starting holds the lock, too, between fork and exec.
    """
    for _ in range(_TRIES):
        if _take(file, wait=False):
            return True
        time.sleep(_PAUSE)
    return False


def _take(file: TextIO, *, wait: bool) -> bool:
    """Takes the lock; False where another process has it."""
    # Not at the top of the file, since Windows has no such module.
    try:
        import fcntl
    except ImportError:
        log.debug("no file locks on this system: use %s from one process at a time", file.name)
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log.warning("no file locks (%s): use %s from one process at a time", error, file.name)
    return True
