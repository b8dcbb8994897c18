"""Stopping a run so that it can go on: signals, and a budget of time. Imports no torch."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ccdiff.distributed.ranks import is_main

__all__ = [
    "EXIT_STATUS",
    "Interrupted",
    "Preempted",
    "Stop",
    "StoppedAtOnce",
    "asked_to_stop",
    "heed",
]

# sysexits.h calls it a temporary failure: try again. Status 1 means that trying again is no use.
EXIT_STATUS = os.EX_TEMPFAIL if hasattr(os, "EX_TEMPFAIL") else 75

_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
]


# As a KeyboardInterrupt, none of the three is an Exception: whoever makes do with a file that
# cannot be read, say, must not take a signal for that.
class Preempted(BaseException):
    """The run was told to stop, has saved, and can go on; commands exit with EXIT_STATUS."""


class StoppedAtOnce(Preempted):
    """Told to stop where there was nothing to save, and raised wherever the program was."""


class Interrupted(BaseException):
    """Told to stop in the midst of work that is left as it is, to be done anew."""


_heeded: "Stop | None" = None


def heed() -> None:
    """Has work that takes long, such as drawing images, end early where training is to stop.

    Called every second or so by whatever may take longer, it does nothing anywhere else.

    Raises:
        Interrupted: Within :meth:`Stop.heeded`, where there is a reason to stop.
    """
    if (reason := asked_to_stop()) is not None:
        raise Interrupted(reason)


def asked_to_stop() -> str | None:
    """Why to stop, within :meth:`Stop.heeded`; None where there is no reason."""
    return None if _heeded is None else _heeded.reason


class Stop:
    """Knows whether training shall stop, and why.

    Arguments:
        max_seconds: Time from now after which it shall; None for any.
        elsewhere: Says why another process asks this one to; None where there is none.
    """

    def __init__(
        self,
        max_seconds: float | None = None,
        *,
        elsewhere: Callable[[], str | None] | None = None,
    ) -> None:
        self.max_seconds = max_seconds
        self.elsewhere = elsewhere
        self._asked: str | None = None
        self._started = time.monotonic()
        self._signal: signal.Signals | None = None
        self._deferring = False
        self._at_once: StoppedAtOnce | None = None

    @property
    def reason(self) -> str | None:
        """Why to stop, in a few words; None while training may go on."""
        if self._signal is not None:
            return f"received {self._signal.name}"
        if self.max_seconds is not None and time.monotonic() - self._started >= self.max_seconds:
            return f"trainer.max_time is used up ({self.max_seconds:.0f} s)"
        if self._asked is None and self.elsewhere is not None:
            self._asked = self.elsewhere()
        return self._asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, SIGTERM, SIGINT and SIGUSR1 stop the program, by an exception or by asking.

        Raises:
            StoppedAtOnce: Where a signal other than Ctrl-C comes, but within :meth:`deferring`.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python hands signals to the main thread alone.
            return
        self._owner = os.getpid()
        before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        try:
            yield
        except Exception as error:
            # Code that is left in the midst of something may make an error of its own of it.
            if self._at_once is not None:
                raise StoppedAtOnce(*self._at_once.args) from error
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Within, a signal is the :attr:`reason` to stop; a second Ctrl-C leaves at once."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Within, :func:`heed` raises where there is a reason to stop."""
        global _heeded
        before, _heeded = _heeded, self
        try:
            yield
        finally:
            _heeded = before

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            # A process that was forked, to read data say, has nothing to save.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        again = number == signal.SIGINT == self._signal
        if again or (number == signal.SIGINT and not self._deferring):
            raise KeyboardInterrupt
        asked = self._signal is not None
        self._signal = signal.Signals(number)
        if not self._deferring and not asked:
            self._at_once = StoppedAtOnce(
                f"{self.reason} while no step was taken: nothing was to be saved"
            )
            raise self._at_once
        if number == signal.SIGINT and is_main():
            # Logging is not safe in a signal handler, which may have interrupted it.
            os.write(2, b"\nsaving, then stopping; Ctrl-C again leaves at once\n")
