"""What is logged: text from data cannot act on a terminal, and a closed pipe ends nothing."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

from ccdiff.system.text import printable

__all__ = ["beside_bars", "guard_console", "leave_closed_pipe"]


class _Printable(logging.Formatter):
    """What another formatter makes, with control characters written out."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return printable(self.inner.format(record), keep="\n\t")


def guard_console() -> None:
    """Guards the streams and files that are logged to; may be called again, as in a sweep."""
    for handler in logging.getLogger().handlers:
        if type(handler) not in (logging.StreamHandler, logging.FileHandler):
            continue  # Others know what they do with text and with errors.
        if not isinstance(handler.formatter, _Printable):
            handler.setFormatter(_Printable(handler.formatter or logging.Formatter()))
        # Logging would print a traceback for each line of a training whose pipe was closed.
        handler.handleError = MethodType(_unless_closed, handler)  # type: ignore[method-assign]


@contextmanager
def beside_bars() -> Iterator[None]:
    """Within, what is logged is printed above bars of tqdm; a closed pipe still ends nothing."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    with logging_redirect_tqdm():
        for handler in logging.getLogger().handlers:
            if type(handler).__module__ == "tqdm.contrib.logging":
                handler.handleError = MethodType(_unless_closed, handler)  # type: ignore[method-assign]
        yield


def _unless_closed(handler: logging.Handler, record: logging.LogRecord) -> None:
    if isinstance(sys.exc_info()[1], BrokenPipeError):
        leave_closed_pipe()
    else:
        logging.Handler.handleError(handler, record)


def leave_closed_pipe() -> None:
    """Lets all that would go to a closed pipe go nowhere, also what Python flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
        except (OSError, ValueError):
            continue
    os.close(nowhere)
