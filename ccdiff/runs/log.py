"""The run's own log, ``metrics.jsonl``: one strict JSON object per line, with its ``step``.

A number that is not finite is written as null, which JSON has and ``NaN`` is not.
"""

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ccdiff.errors import UserError
from ccdiff.runs.tracker import TrackerSession
from ccdiff.system.atomic import write_text

__all__ = ["RunLog", "Unlogged", "finite", "metric_rows", "read_metrics", "thinned_rows"]

log = logging.getLogger(__name__)

_MOST_KINDS = 64
_LARGE = 1 << 63
"""Whole numbers from here on are no figures of a training."""
_OVERFLOWS = 1e150
"""Nor are these: the square of one, or a sum of some, is infinite."""


# Logs of earlier versions have NaN and Infinity, which are left out as null is.
_DECODER = json.JSONDecoder(parse_constant=lambda name: None)


class RunLog:
    """The run's own record, ``metrics.jsonl``, with the tracker beside it.

    Arguments:
        path: The JSON-lines file; one row per step that has something to say.
        session: The tracker.
        step: Where the run goes on; rows of later steps, left by a crash, are taken out.
    """

    def __init__(self, path: Path, session: TrackerSession, *, step: int = 0) -> None:
        self.path = path
        self.session = session
        self.last: dict[str, Any] = {}
        """What was last recorded of each figure up to the step where the run goes on."""
        self._logged: dict[int, set[str]] = {}
        self._kept: list[tuple[int, set[str]]] = []
        self.rewind(step)

    def rewind(self, step: int) -> None:
        """Takes out the rows after ``step``, which will be taken anew.

        Lines that are no rows are kept aside, in ``metrics.jsonl.aside``. A tracker keeps what it
        was given: its history does not go back, and is not repeated.
        """
        if not self.path.exists():
            if step > 0:
                log.warning("%s is missing: figures before step %d are lost", self.path, step)
            return
        kept, aside, last = [], [], []
        for line in _lines(self.path):
            if line.row is None:
                if not line.torn:
                    aside.append(line.text)
            elif line.row["step"] <= step:
                kept.append(line.text)
                self.last |= line.row
                if line.row["step"] == step:
                    last.append(set(line.row))
            else:
                self._logged.setdefault(line.row["step"], set()).update(line.row)
        if aside:
            place = self.path.with_name(f"{self.path.name}.aside")
            before = place.read_text() if place.exists() else ""
            write_text(place, before + "".join(f"{text}\n" for text in aside))
            log.warning(
                "%d lines of %s that are no rows are now in %s", len(aside), self.path, place
            )
        if step > 0 and not kept:
            log.warning("%s holds no figures up to step %d: those are lost", self.path, step)
        write_text(self.path, "".join(f"{text}\n" for text in kept))
        self._kept = [(step, keys) for keys in last]

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Records numbers at a step; the tracker is given those that are finite.

        What an earlier launch recorded at the step where it was interrupted is not repeated.
        """
        known = finite(values)
        row = {"step": step, **{key: known.get(key) for key in values}}
        if (step, set(row)) in self._kept:
            return
        try:
            file = self.path.open("a")
        except FileNotFoundError as error:
            raise UserError(
                f"{self.path.parent} is not there any more: it was removed while training wrote "
                f"to it"
            ) from error
        with file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        logged = self._logged.get(step, set())
        if news := {key: value for key, value in known.items() if key not in logged}:
            self.session.metrics(news, step=step)

    def image(self, key: str, path: Path, *, step: int) -> None:
        """Records a picture that is already in the run directory."""
        if step >= max(self._logged, default=0):
            self.session.image(key, path, step=step)

    def sync(self) -> None:
        """Brings the rows to the disk; a checkpoint must not outlive those before it."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


class Unlogged(RunLog):
    """The record of a process that keeps none."""

    def rewind(self, step: int) -> None:
        pass

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        pass

    def image(self, key: str, path: Path, *, step: int) -> None:
        pass

    def sync(self) -> None:
        pass


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Those that are finite: one NaN spoils the summary of a tracker for good."""
    return {key: value for key, value in values.items() if math.isfinite(value)}


def metric_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a ``metrics.jsonl``, one at a time: the ``step``, and figures that are finite.

    The last line may have been cut short by a crash and is left out in silence; any other line
    that is no row is left out with a warning that names it. Of a missing file there are no rows.
    """
    if not path.exists():
        return
    for number, line in enumerate(_lines(path), start=1):
        if line.row is not None:
            yield line.row
        elif not line.torn:
            log.warning("line %d of %s is no row of figures: it is left out", number, path)


def read_metrics(path: Path) -> Sequence[dict[str, Any]]:
    """All of :func:`metric_rows`."""
    return list(metric_rows(path))


def thinned_rows(path: Path, *, most: int) -> Iterator[dict[str, Any]]:
    """Rows in order, of each kind evenly thinned to at most ``2 * most``, and the last.

    A kind is what the first figure of a row says: rows of one hook have the same figures. Only
    rows that are kept are read, so that a million lines take seconds.

    Arguments:
        path: A ``metrics.jsonl``; of a missing one there are no rows.
        most: Rows of each kind, from which on every other one is left out, again and again.
    """
    if not path.exists():
        return
    kinds: dict[str, _Kind] = {}
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            start = line.find('"', len('{"step"'))
            name = line[start : line.find('"', start + 1)]
            if name not in kinds:
                name = name if len(kinds) < _MOST_KINDS else ""
                kinds.setdefault(name, _Kind([], 1))
            kind = kinds[name]
            if kind.seen % kind.stride == 0:
                kind.kept.append((number, line))
                if len(kind.kept) == 2 * most:
                    kind.kept, kind.stride = kind.kept[::2], 2 * kind.stride
            kind.seen += 1
            # The last line of all may be torn.
            kind.last = [*kind.last[-1:], (number, line)]
    kept = {number: line for kind in kinds.values() for number, line in (*kind.kept, *kind.last)}
    for number in sorted(kept):
        text = kept[number].strip()
        row = _row(text)
        if row is not None:
            yield row
        elif text and kept[number].endswith("\n"):
            log.warning("line %d of %s is no row of figures: it is left out", number, path)


@dataclass
class _Kind:
    """Rows with the same figures: which are kept, one in how many, and the last two."""

    kept: list[tuple[int, str]]
    stride: int
    seen: int = 0
    last: list[tuple[int, str]] = field(default_factory=list)


class _Line(NamedTuple):
    """A line, what it says if it is a row, and whether it is the last and has no end."""

    text: str
    row: dict[str, Any] | None
    torn: bool


def _lines(path: Path) -> Iterator[_Line]:
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            text = line.rstrip("\r\n")
            if text:
                yield _Line(text, _row(text), torn=not line.endswith("\n"))


def _row(text: str) -> dict[str, Any] | None:
    try:
        content, end = _DECODER.raw_decode(text)
        if text[end:].strip():
            return None
    except (ValueError, RecursionError):
        return None
    step = content.get("step") if isinstance(content, dict) else None
    if type(step) is not int or not 0 <= step < _LARGE:
        return None
    return {
        key: value
        for key, value in content.items()
        if (type(value) is float and abs(value) < _OVERFLOWS)
        or (type(value) is int and abs(value) < _LARGE)
    }
