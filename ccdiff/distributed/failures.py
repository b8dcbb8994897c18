"""Who tells the user what ended many processes: one of them, and the cause.

Processes leave word of it in the store at the launcher, which outlives each of them. Imports no
torch by itself: what is wrong may be found before commands have parsed.
"""

import logging
import time
import traceback
from datetime import timedelta
from typing import Any

from ccdiff.distributed.ranks import is_main, local_rank, rank
from ccdiff.errors import UserError

__all__ = ["Failures", "let_main_tell"]

log = logging.getLogger(__name__)

_FAILED, _TOLD = "failed", "told"
# How long to look for the cause where contact is lost, and to wait for rank 0 to tell it.
_CAUSE_SECONDS, _TELLING_SECONDS = 2.0, 10.0


class Failures:
    """What processes know of each other's end; of use also after their group has ended.

    Arguments:
        store: Of torch.distributed; None before there is a group. Then all processes read the
            same command line, and one per machine tells what is wrong with it.
    """

    def __init__(self, store: Any = None) -> None:
        self._store = store

    def cause(self) -> str | None:
        """What the first process to fail has left word of."""
        try:
            self._store.wait([_FAILED], timedelta(seconds=_CAUSE_SECONDS))
            return str(self._store.get(_FAILED).decode())
        # The store goes with the launcher, and raises whatever its version does.
        except Exception:
            return None

    def leave_word(self, error: BaseException) -> None:
        """Lets the others name the cause, if this process is the first to fail."""
        try:
            told = f"rank {rank()} failed: {_described(error)}"
            self._store.compare_set(_FAILED, "", told)
        except Exception:
            log.debug("the others could not be told", exc_info=True)

    def note_told(self) -> None:
        """On rank 0, which has just told the user: the others need not."""
        if self._store is None or not is_main():
            return
        try:
            self._store.set(_TOLD, "1")
        except Exception:
            log.debug("the others could not be told", exc_info=True)

    def wait_until_told(self) -> bool:
        """Whether rank 0 has told the user what ended this process too; waits a little for it."""
        if self._store is None:
            if local_rank() > 0:
                let_main_tell()
            return local_rank() > 0
        if is_main():
            return False
        try:
            self._store.wait([_TOLD], timedelta(seconds=_TELLING_SECONDS))
        except Exception:
            return False
        return True


def _described(error: BaseException) -> str:
    """An error in the words of its message; one of the program with its type and traceback."""
    if isinstance(error, UserError | OSError):
        return str(error)
    where = "".join(traceback.format_exception(error)).rstrip()
    return f"{type(error).__name__}: {error}\n{where}"


def let_main_tell() -> None:
    """Waits before an exit that says nothing: whoever ends first has torchrun end the others."""
    time.sleep(_TELLING_SECONDS)
