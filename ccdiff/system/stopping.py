"""Stopping a run so that it can go on: signals, and a budget of time. Imports no torch."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ccdiff.distributed.ranks import is_main

__all__ = ["EXIT_STATUS", "Preempted", "Stop"]

# sysexits.h calls it a temporary failure: try again. Status 1 means that trying again is no use.
EXIT_STATUS = os.EX_TEMPFAIL if hasattr(os, "EX_TEMPFAIL") else 75

_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
]


class Preempted(Exception):
    """The run was told to stop, has saved, and can go on; commands exit with EXIT_STATUS."""


class Stop:
    """Knows whether training shall stop after the step at hand, and why.

    Arguments:
        max_seconds: Time from now after which it shall; None for any.
    """

    def __init__(self, max_seconds: float | None = None) -> None:
        self.max_seconds = max_seconds
        self._started = time.monotonic()
        self._signal: signal.Signals | None = None

    @property
    def reason(self) -> str | None:
        """Why to stop, in a few words; None while training may go on."""
        if self._signal is not None:
            return f"received {self._signal.name}"
        if self.max_seconds is not None and time.monotonic() - self._started >= self.max_seconds:
            return f"trainer.max_time is used up ({self.max_seconds:.0f} s)"
        return None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, SIGTERM, SIGINT and SIGUSR1 ask to stop, and a second Ctrl-C leaves at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python hands signals to the main thread alone.
            return
        before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT == self._signal:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)
        if number == signal.SIGINT and is_main():
            # Logging is not safe in a signal handler, which may have interrupted it.
            os.write(
                2, b"\nstopping after this step and what it draws; Ctrl-C again leaves at once\n"
            )
