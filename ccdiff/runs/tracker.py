"""Where metrics and pictures go: ``metrics.jsonl`` always, Weights & Biases by choice."""

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccdiff.errors import UserError
from ccdiff.system.atomic import write_text
from ccdiff.system.stopping import Preempted

__all__ = [
    "NoSession",
    "NoTracker",
    "RunInfo",
    "RunLog",
    "Tracker",
    "TrackerSession",
    "Unlogged",
    "WandbTracker",
]

log = logging.getLogger(__name__)

_SUMMARIES = {
    "train/loss": "min",
    "heldout/*": "min",
    "evaluate/fd_*": "min",
    "evaluate/label_agreement*": "max",
}
"""What the table of runs shows of each curve: its best value, not its last."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a tracker is told of a run.

    Arguments:
        path: The run directory.
        config: The whole resolved config, as plain dicts and lists.
        name: Short name, such as ``schedule=cosine,seed=1``.
        group: What runs of one sweep share, or None.
        tags: The user's overrides.
        tracker_id: Identity to continue under, or None for a new one.
    """

    path: Path
    config: dict[str, Any]
    name: str | None
    group: str | None
    tags: tuple[str, ...]
    tracker_id: str | None = None


class TrackerSession(ABC):
    """An open tracker."""

    tracker_id: str | None = None

    @abstractmethod
    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Records numbers at a step; steps never go back."""

    @abstractmethod
    def image(self, key: str, path: Path, *, step: int) -> None:
        """Records a PNG or GIF file under a stable key."""

    @abstractmethod
    def table(self, key: str, rows: Sequence[Sequence[object]], *, step: int) -> None:
        """Records rows of strings and numbers, the first of which names the columns."""


class Tracker(ABC):
    """The contract: a context that records one run, and marks it failed where it raises.

    Where it raises :class:`~ccdiff.system.stopping.Preempted`, the run is marked so.
    """

    @abstractmethod
    @contextmanager
    def session(self, info: RunInfo) -> Iterator[TrackerSession]:
        """Opens the run."""
        yield NoSession()


class NoSession(TrackerSession):
    """Records nothing."""

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        pass

    def image(self, key: str, path: Path, *, step: int) -> None:
        pass

    def table(self, key: str, rows: Sequence[Sequence[object]], *, step: int) -> None:
        pass


class NoTracker(Tracker):
    """No tracker: ``metrics.jsonl`` and ``samples/`` hold everything."""

    @contextmanager
    def session(self, info: RunInfo) -> Iterator[TrackerSession]:
        yield NoSession()


class WandbTracker(Tracker):
    """Weights & Biases: online where the user is logged in, else offline; never a prompt.

    Arguments:
        project: Project to log to.
        entity: User or team, or None for the default one.
        mode: online, offline or disabled; None follows WANDB_MODE, then the log-in.
    """

    def __init__(self, *, project: str, entity: str | None, mode: str | None) -> None:
        if mode not in (None, "online", "offline", "disabled"):
            raise UserError(f"tracker.mode must be online, offline or disabled, got {mode!r}")
        self.project = project
        self.entity = entity
        self.mode = mode

    @contextmanager
    def session(self, info: RunInfo) -> Iterator[TrackerSession]:
        run = self._init(info)
        for pattern, best in _SUMMARIES.items():
            run.define_metric(pattern, summary=best)
        try:
            yield _WandbSession(run)
        except BaseException as error:
            if isinstance(error, Preempted):
                run.mark_preempting()
            run.finish(exit_code=1)
            raise
        run.finish()
        if run.settings.mode == "offline":
            log.info("W&B run kept offline; to upload: wandb sync %s", Path(run.dir).parent)

    def _init(self, info: RunInfo) -> Any:
        import wandb

        mode = self.mode or os.environ.get("WANDB_MODE")
        if mode is None:
            mode = "online" if wandb.login(prompt=False) else "offline"

        def init(mode: Any) -> Any:
            return wandb.init(
                project=self.project,
                entity=self.entity,
                mode=mode,
                dir=info.path,
                config=info.config,
                name=info.name,
                group=info.group,
                job_type="train",
                tags=[tag[:64] for tag in info.tags],
                id=info.tracker_id,
                resume="allow" if info.tracker_id else None,
                # Progress bars would fill the console log with control characters.
                settings=wandb.Settings(console="off", silent=True),
            )

        try:
            return init(mode)
        except wandb.errors.Error as error:
            if mode != "online":
                raise
            log.warning("W&B is not reachable (%s); this run is kept offline", error)
            return init("offline")


class _WandbSession(TrackerSession):
    def __init__(self, run: Any) -> None:
        self.run = run
        self.tracker_id = run.id

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        self.run.log(dict(values), step=step)

    def image(self, key: str, path: Path, *, step: int) -> None:
        import wandb

        # By path: W&B stores the file as it is, where a float array would come out black.
        film = path.suffix == ".gif"
        media = wandb.Video(str(path), format="gif") if film else wandb.Image(str(path))
        self.run.log({key: media}, step=step)

    def table(self, key: str, rows: Sequence[Sequence[object]], *, step: int) -> None:
        import wandb

        header, *data = rows
        shown = wandb.Table(columns=[str(name) for name in header], data=[list(r) for r in data])
        self.run.log({key: shown}, step=step)


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
        self._told: dict[int, set[str]] = {}
        self.rewind(step)

    def rewind(self, step: int) -> None:
        """Takes out the rows after ``step``, which will be taken anew.

        A tracker keeps what it was told: its history does not go back, and is not repeated.
        """
        if not self.path.exists():
            return
        kept = []
        for row in read_metrics(self.path):
            if row["step"] <= step:
                kept.append(row)
            else:
                self._told.setdefault(row["step"], set()).update(row)
        text = "".join(json.dumps(row) + "\n" for row in kept)
        write_text(self.path, text)

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Records numbers at a step."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        told = self._told.get(step, set())
        if news := {key: value for key, value in values.items() if key not in told}:
            self.session.metrics(news, step=step)

    def image(self, key: str, path: Path, *, step: int) -> None:
        """Records a picture that is already in the run directory."""
        if step >= max(self._told, default=0):
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


def read_metrics(path: Path) -> Sequence[dict[str, Any]]:
    """The rows of a ``metrics.jsonl``; a last line cut short by a crash is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
