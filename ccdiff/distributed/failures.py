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

__all__ = ["cause", "leave_word", "let_main_tell", "told_by_main", "use"]

log = logging.getLogger(__name__)

_FAILED, _TOLD = "failed", "told"
# How long to look for the cause where contact is lost, and to wait for rank 0 to tell it.
_CAUSE_SECONDS, _TELLING_SECONDS = 2.0, 10.0

_store: Any = None


def use(store: Any) -> None:
    """Has words left in ``store`` of torch.distributed from now on, also after the group ends."""
    global _store
    _store = store


def cause() -> str | None:
    """What the first process to fail has left word of."""
    try:
        _store.wait([_FAILED], timedelta(seconds=_CAUSE_SECONDS))
        return str(_store.get(_FAILED).decode())
    # The store goes with the launcher, and raises whatever its version does.
    except Exception:
        return None


def leave_word(error: BaseException) -> None:
    """Lets the others name the cause, if this process is the first to fail."""
    try:
        _store.compare_set(_FAILED, "", f"rank {rank()} failed: {_described(error)}")
    except Exception:
        log.debug("the others could not be told", exc_info=True)


def _described(error: BaseException) -> str:
    """An error in the words of its message; one of the program with its type and traceback."""
    if isinstance(error, UserError | OSError) or not isinstance(error, Exception):
        return str(error) or type(error).__name__
    where = "".join(traceback.format_exception(error)).rstrip()
    return f"{type(error).__name__}: {error}\n{where}"


def told_by_main(*, tell: bool = False) -> bool:
    """Whether rank 0 has told the user of the error that ended this process too.

    Arguments:
        tell: For rank 0, which has just told; the others wait a little for it.
    """
    if _store is None:
        # Before there is a group all processes read the same command line: one tells, per machine.
        if local_rank() > 0:
            let_main_tell()
        return local_rank() > 0
    try:
        if is_main():
            if tell:
                _store.set(_TOLD, "1")
            return False
        _store.wait([_TOLD], timedelta(seconds=_TELLING_SECONDS))
        return True
    except Exception:
        return False


def let_main_tell() -> None:
    """Waits before an exit that says nothing: whoever ends first has torchrun end the others."""
    time.sleep(_TELLING_SECONDS)
