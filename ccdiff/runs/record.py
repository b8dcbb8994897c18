"""The record of a run, ``record.json``: how it stands, and all that it takes to repeat it.

It holds no environment variables, and of files only what git tracks or the package is made of.
"""

import functools
import json
import math
import platform
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ccdiff.runs.folder import Run
from ccdiff.runs.origin import is_sealed, seal
from ccdiff.system.atomic import write_text, write_whole
from ccdiff.system.stopping import Preempted
from ccdiff.system.typed import as_typed

__all__ = ["Record", "Session", "read_record", "recording", "revision"]

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
_FILE = "record.json"
_ROOT = Path(__file__).parents[2]
_OURS = ("ccdiff", "conf", "train.py", "sample.py")


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

    def finished(self, *, steps: int) -> bool:
        """Whether there is a result of ``steps`` steps, so that nothing is left to train."""
        return self.status == FINISHED and self.result is not None and self.step >= steps

    @property
    def rank(self) -> tuple[bool, float]:
        """Sorts the best first and what has no result last."""
        return self.problem is not None, math.inf if self.result is None else self.result

    @property
    def line(self) -> str:
        """How it ended, in a few words."""
        if self.problem is not None:
            return self.problem.splitlines()[0]
        return f"heldout/eps_mse {self.result:.4f}  {self.step} steps in {self.wall_seconds:.0f} s"

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
    """The record of a run, or None where it left none that can be read."""
    try:
        content: dict[str, Any] = json.loads((run.path / _FILE).read_text())
        sessions = [Session(**session) for session in content["sessions"]]
        known = {f.name: content[f.name] for f in fields(Record) if f.name in content}
        return Record(**{**known, "sessions": sessions})
    except (OSError, ValueError, KeyError, TypeError):
        return None


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


def revision(folder: Path, name: str) -> tuple[str | None, str | None]:
    """The commit, and the name of the file in ``folder`` that ``git apply`` makes up the rest of.

    Arguments:
        folder: Where that file goes.
        name: What it is called.

    Returns:
        Commit, None where the code is not under git; ``name``, None where all was committed.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel").decode().strip()) != _ROOT.resolve():
            return None, None
        commit = _git("rev-parse", "HEAD").decode().strip()
        new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *_OURS).split(b"\0")
        changes = _git("diff", "--binary", "HEAD")
        for path in filter(None, new):
            changes += _git("diff", "--binary", "--no-index", "/dev/null", path.decode(), ok=(1,))
    except (OSError, subprocess.SubprocessError):
        return None, None
    if not changes:
        return commit, None
    write_whole(folder / name, lambda file: file.write(changes))
    return commit, name


def _git(*arguments: str, ok: tuple[int, ...] = (0,)) -> bytes:
    # Without the user's own settings: an external diff tool would write no patch.
    command = ["git", "-C", str(_ROOT), "-c", "core.quotepath=off", *arguments]
    if arguments[0] == "diff":
        command[6:6] = ["--no-ext-diff", "--no-color"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    if done.returncode not in ok:
        raise subprocess.CalledProcessError(done.returncode, command)
    return done.stdout
