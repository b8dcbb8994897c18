"""The record of a run, ``record.json``: how it stands, and all that it takes to repeat it.

It holds no environment variables, and of files only what git tracks or the package is made of.
"""

import functools
import json
import logging
import math
import os
import platform
import shlex
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, get_args, get_origin

from ccdiff.runs.folder import Run
from ccdiff.runs.origin import is_sealed, seal
from ccdiff.runs.revision import revision
from ccdiff.system.atomic import write_text
from ccdiff.system.stopping import Preempted
from ccdiff.system.typed import as_typed

__all__ = ["Record", "Session", "read_record", "recording", "set_aside_damaged"]

log = logging.getLogger(__name__)

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
_FILE = "record.json"


@functools.cache
def _packages() -> dict[str, str]:
    found = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


@dataclass
class Session:
    """One launch of a run, from its start, or from where it was taken up, to its end.

    Arguments:
        overrides: What was asked for on the command line.
        began: Date and time, UTC.
        from_step: Steps taken before.
        commit: Of the code, None where that is not in git.
        diff: File in the run directory with what was not committed, None where all was.
        to_step: Steps taken in the end.
        wall_seconds: From start to end, with all that training waits for.
        seconds: What the training loop spent on each part of a step.
    """

    overrides: list[str]
    began: str
    from_step: int = 0
    commit: str | None = None
    diff: str | None = None
    to_step: int | None = None
    wall_seconds: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Record:
    """What ``record.json`` holds.

    Arguments:
        status: running, finished, failed or interrupted; a run that was killed is still running.
        config_hash: Of what decides the result, by
            :func:`~ccdiff.config.differences.config_hash`.
        choices: Option of each group.
        seeds: Of what is random.
        title: What the run is, in a line: data set, model, what was asked for besides.
        error: Why it failed.
        refused: Why a later launch left this run alone although it was to be trained.
        device: Name of the processor that trained.
        precision: Of autocast.
        flops_per_image: Floating-point operations of a training step.
        peak_flops_per_second: What the device reaches on matrix products.
        step: Optimizer steps taken.
        images_seen: Training images, each as often as it was taken.
        training_seconds: In the training loop, over all sessions.
        result: Last ``heldout/eps_mse``.
        stop_at: What was to be reached, where a run is asked to end there.
        reached: What it cost to get there, as :class:`~ccdiff.metrics.goals.Reached` has it; None
            where it was never reached.
        tracker_id: Identity that the tracker knows the run by.
        tracker_seal: That it was this user who tracked it, and where; see :meth:`tracked`.
        python: Version.
        system: Operating system and processor.
        packages: Versions of all that is installed.
        sessions: One per launch.
    """

    config_hash: str
    choices: dict[str, str]
    seeds: dict[str, int]
    title: str = ""
    status: str = RUNNING
    error: str | None = None
    refused: str | None = None
    device: str | None = None
    precision: str | None = None
    flops_per_image: int | None = None
    peak_flops_per_second: float | None = None
    step: int = 0
    images_seen: int = 0
    training_seconds: float = 0.0
    result: float | None = None
    stop_at: str | None = None
    reached: dict[str, float | None] | None = None
    tracker_id: str | None = None
    tracker_seal: str | None = None
    python: str = field(default_factory=platform.python_version)
    system: str = field(default_factory=platform.platform)
    packages: dict[str, str] = field(default_factory=_packages)
    sessions: list[Session] = field(default_factory=list)

    @property
    def overrides(self) -> list[str]:
        """Those of all sessions; of each key the last."""
        last = {o.partition("=")[0].lstrip("+~"): o for s in self.sessions for o in s.overrides}
        return list(last.values())

    @property
    def command(self) -> str:
        """What trains the same again, in a new folder."""
        return " ".join([as_typed("train"), *map(shlex.quote, self.overrides)])

    @property
    def wall_seconds(self) -> float:
        """Over all sessions whose end is known."""
        return sum(session.wall_seconds or 0.0 for session in self.sessions)

    @property
    def problem(self) -> str | None:
        """Why there is no result to be had of what was asked for, or None."""
        if self.refused is not None:
            return f"refused: {self.refused}"
        if self.status == FINISHED:
            return None
        return f"{self.status}: {self.error}" if self.error else self.status

    def finished(self, *, steps: int, stop_at: str | None = None) -> bool:
        """Whether there is a result of ``steps`` steps, so that nothing is left to train.

        Or of fewer, where the run ended as it was good enough, by the same ``stop_at``.
        """
        enough = self.reached is not None and self.stop_at == stop_at
        done = self.step >= steps or enough
        return self.status == FINISHED and self.result is not None and done

    @property
    def rank(self) -> tuple[bool, float]:
        """Sorts the best first and what has no result last."""
        return self.problem is not None, math.inf if self.result is None else self.result

    @property
    def line(self) -> str:
        """How it ended, in a few words."""
        if self.problem is not None:
            return self.problem.splitlines()[0]
        took = f"heldout/eps_mse {self.result:.4f}  {self.step} steps in {self.wall_seconds:.0f} s"
        if self.stop_at is None:
            return took
        return f"{took}, trainer.stop_at {'not ' if self.reached is None else ''}reached"

    def take_up(self, *, step: int, batch_size: int) -> None:
        """Goes back to ``step``: a session that was killed had no chance to say how far it got."""
        self.step, self.images_seen = step, step * batch_size
        if self.sessions and self.sessions[-1].to_step is None:
            self.sessions[-1].to_step = step

    def tracked(self, tracker: Mapping[str, Any], tracker_id: str | None) -> None:
        """Notes where the run is tracked.

        Arguments:
            tracker: The group of the config, as plain values.
            tracker_id: Identity that it knows the run by, or None.
        """
        self.tracker_id = tracker_id
        self.tracker_seal = None if tracker_id is None else seal([dict(tracker), tracker_id])

    def is_tracked_by(self, tracker: Mapping[str, Any], tracker_id: str) -> bool:
        """Whether this user tracked the run there: a folder from elsewhere may say anything."""
        return is_sealed([dict(tracker), tracker_id], self.tracker_seal)

    def finish(self, result: float) -> None:
        """All that was asked for is trained."""
        self.status, self.error, self.refused = FINISHED, None, None
        self.result = result

    def write(self, run: Run) -> None:
        """Writes it to the run directory, whole or not at all."""
        content = {"command": self.command, **asdict(self), "wall_seconds": self.wall_seconds}
        text = json.dumps(content, indent=1) + "\n"
        write_text(run.path / _FILE, text)


def read_record(run: Run) -> Record | None:
    """The record of a run, or None where it left none that can be read.

    A file that is there and is no record, or has values of another type, is told once.
    """
    path = run.path / _FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        sessions = [Session(**_known(session, Session)) for session in content["sessions"]]
        return Record(**{**_known(content, Record), "sessions": sessions})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _tell_damaged(path, f"{type(error).__name__}: {error}")
        return None


def set_aside_damaged(run: Run) -> None:
    """Renames a record that cannot be read, so that a new one does not take its place."""
    path = run.path / _FILE
    if path.exists() and read_record(run) is None:
        aside = path.with_name(f"{_FILE}.aside")
        os.replace(path, aside)
        log.warning("%s is now %s, and a new record begins", path, aside.name)


@functools.cache
def _tell_damaged(path: Path, reason: str) -> None:
    log.warning("%s is damaged, and is not used: %s", path, reason)


def _known(content: Any, kind: type) -> dict[str, Any]:
    """The fields of a dataclass that are there; raises TypeError where one is of another type."""
    there = {f.name: f.type for f in fields(kind) if f.name in content}
    for name, hint in there.items():
        if not _is(content[name], hint):
            raise TypeError(f"{name} is {content[name]!r:.60}")
    return {name: content[name] for name in there}


def _is(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of an annotated type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return any(_is(value, one) for one in inner)
    if origin is list:
        return isinstance(value, list) and (
            inner[0] is Session or all(isinstance(child, inner[0]) for child in value)
        )
    if origin is dict:
        return isinstance(value, dict) and all(_is(child, inner[1]) for child in value.values())
    if hint is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    return type(value) is hint


@contextmanager
def recording(run: Run, record: Record, *, overrides: Sequence[str]) -> Iterator[Session]:
    """Keeps the record of a session: running, unless it finishes inside, and failed on an error.

    Arguments:
        run: Whose record.
        record: As an earlier session left it, or new; changed in place.
        overrides: What was asked for on the command line.
    """
    began = datetime.now(UTC)
    commit, diff = revision(run.path, f"uncommitted_{len(record.sessions)}.diff")
    session = Session(
        list(overrides),
        began.isoformat(timespec="seconds"),
        from_step=record.step,
        commit=commit,
        diff=diff,
    )
    record.status, record.error, record.refused = RUNNING, None, None
    record.sessions.append(session)
    record.write(run)
    try:
        yield session
    except BaseException as error:
        stopped = isinstance(error, Preempted) or not isinstance(error, Exception)
        record.status = INTERRUPTED if stopped else FAILED
        record.error = f"{type(error).__name__}: {error}".strip()
        raise
    finally:
        session.to_step = record.step
        session.wall_seconds = round((datetime.now(UTC) - began).total_seconds(), 2)
        record.write(run)
