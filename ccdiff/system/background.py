"""Work, such as writing files, that is done while its results are not waited for."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

__all__ = ["Background"]

_MOST_PENDING = 4


class Background:
    """Does one thing after the other in a thread; leaving the context waits for all of them.

    What is pending holds on to memory, so there is never much of it: who is too quick waits. An
    error ends what is pending, and is raised by the next call, or on leaving.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._pending: deque[Future[object]] = deque()

    def __enter__(self) -> Self:
        return self

    def __call__(self, work: Callable[[], object]) -> None:
        """Has ``work`` done after all that came before it.

        Raises:
            Exception: What an earlier one raised.
        """
        while self._pending and (self._pending[0].done() or len(self._pending) >= _MOST_PENDING):
            self._next()
        self._pending.append(self._pool.submit(work))

    def _next(self) -> None:
        try:
            self._pending.popleft().result()
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        for future in self._pending:
            future.cancel()
        self._pending.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            while self._pending:
                self._next()
        except Exception as ours:
            if error is None:
                raise
            error.add_note(f"besides, writing failed: {ours}")
        finally:
            self._pool.shutdown()
