"""Where the time of a training step goes, part by part, without waiting for the device."""

import time
from collections import deque
from typing import Any, Protocol

import torch

from ccdiff.distributed.group import sum_tensor_
from ccdiff.training.state import TrainState

__all__ = ["PARTS", "Clock", "ProcessorTime", "StepTimer", "clock_of"]

PARTS = ("data", "forward", "backward", "optimizer", "ema", "hooks")
"""What a step is made of. ``hooks`` is all that happens between steps, logging included."""


class Clock(Protocol):
    """Marks moments, and tells later how far apart they were."""

    def mark(self) -> Any:
        """The present; on a GPU, when all work so far will be done."""

    def passed(self, mark: Any) -> bool:
        """Whether the moment has come, so that it can be measured."""

    def seconds(self, start: Any, end: Any) -> float:
        """From one moment to another, both passed."""


class _HostClock:
    """A CPU does its work before it returns, so a moment is the time."""

    def mark(self) -> float:
        return time.perf_counter()

    def passed(self, mark: float) -> bool:
        return True

    def seconds(self, start: float, end: float) -> float:
        return end - start


class _CudaClock:
    """A GPU works behind the program, so moments are events in its queue."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def passed(self, mark: torch.cuda.Event) -> bool:
        return mark.query()

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return start.elapsed_time(end) / 1000


def clock_of(device: torch.device) -> Clock:
    """The clock of a device."""
    return _CudaClock(device) if device.type == "cuda" else _HostClock()


class StepTimer:
    """Splits time into parts without gaps: what passes between two laps is in exactly one.

    On a GPU the parts are those of its own time. Where it waits for the program, for data say, the
    wait belongs to the part whose work comes next.

    Arguments:
        clock: That of the device.
    """

    def __init__(self, clock: Clock) -> None:
        self.totals = dict.fromkeys(PARTS, 0.0)
        """Seconds by part, as far as the device has got."""
        self._clock = clock
        self._read = dict(self.totals)
        self._laps: deque[tuple[str, Any, Any]] = deque()
        self.start()

    def start(self) -> None:
        """Begins here: the time since the last lap is in no part."""
        self._last = self._clock.mark()

    def lap(self, part: str) -> None:
        """Counts the time since the last lap to one of :data:`PARTS`."""
        mark = self._clock.mark()
        self._laps.append((part, self._last, mark))
        self._last = mark
        self._settle()

    def _settle(self) -> None:
        """Adds up the laps that have passed, oldest first."""
        while self._laps and self._clock.passed(self._laps[0][2]):
            part, start, end = self._laps.popleft()
            self.totals[part] += self._clock.seconds(start, end)

    def read(self) -> dict[str, float]:
        """Seconds by part since the last reading."""
        self._settle()
        since = {part: total - self._read[part] for part, total in self.totals.items()}
        self._read = dict(self.totals)
        return since

    @property
    def summary(self) -> str:
        """The shares in a few words, such as ``data 1 %, forward 31 %, ...``."""
        whole = sum(self.totals.values()) or 1.0
        return ", ".join(f"{part} {100 * s / whole:.0f} %" for part, s in self.totals.items())


class ProcessorTime:
    """What steps take of the processors, drawing and judging left out.

    Arguments:
        state: Is told the time of all processes.
    """

    def __init__(self, state: TrainState) -> None:
        self.state = state
        self._before = state.cpu_seconds
        self._spent = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """A step begins."""
        self._since = time.process_time()

    def pause(self) -> None:
        """It is over."""
        now = time.process_time()
        self._spent += now - (now if self._since is None else self._since)
        self._since = None

    def tell(self) -> None:
        """Sums up over all processes, all of which come here."""
        running = self._since is not None
        self.pause()
        if running:
            self.start()
        spent = torch.tensor(self._spent, dtype=torch.float64)
        self.state.cpu_seconds = self._before + sum_tensor_(spent).item()
