"""Trackers of runs: Weights & Biases, or none beside the run's own log."""

import importlib.util
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccdiff.errors import UserError
from ccdiff.system.network import answers
from ccdiff.system.stopping import Preempted

__all__ = [
    "NoSession",
    "NoTracker",
    "RunInfo",
    "Tracker",
    "TrackerSession",
    "WandbTracker",
]

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds for W&B to answer before a run starts."""
_INIT_SECONDS, _FINISH_SECONDS = 30.0, 120.0
"""For W&B to take in a run, and at its end what it has not been sent yet; that stays on disk."""
# What W&B takes for the name of a project, and for that of a user or team.
_MOST_LETTERS, _NOT_IN_NAMES = 128, "/\\#?%:"

_SUMMARIES = {
    "train/loss": "min",
    "heldout/*": "min",
    "evaluate/fd_*": "min",
    "evaluate/label_agreement*": "max",
    "evaluate/label_error*": "min",
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
        if importlib.util.find_spec("wandb") is None:
            raise UserError(
                "tracker=wandb needs wandb, which is not installed: pip install wandb, or pass "
                "tracker=none (metrics.jsonl and samples/ of the run hold the same figures)"
            )
        if mode not in (None, "online", "offline", "disabled"):
            raise UserError(f"tracker.mode must be online, offline or disabled, got {mode!r}")
        if not project or len(project) > _MOST_LETTERS or set(project) & set(_NOT_IN_NAMES):
            raise UserError(
                f"tracker.project must be 1 to {_MOST_LETTERS} letters without any of "
                f"{' '.join(_NOT_IN_NAMES)}, got {project!r}"
            )
        if entity is not None and (not entity or set(entity) & set(_NOT_IN_NAMES)):
            raise UserError(
                f"tracker.entity must be a user or team without any of "
                f"{' '.join(_NOT_IN_NAMES)}, got {entity!r}"
            )
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

    def _mode(self) -> str:
        """``online`` where there is a key and W&B answers, ``offline`` where not."""
        import wandb

        mode = self.mode or os.environ.get("WANDB_MODE")
        if mode not in (None, "online"):
            return str(mode)
        try:
            # Without asking W&B whether the key is right, which without a network takes long.
            if mode is None and not wandb.login(prompt=False, verify=False):
                return "offline"
        except wandb.errors.Error as error:
            log.warning("W&B takes no log-in (%s); this run is kept offline", error)
            return "offline"
        if not answers(wandb.setup().settings.base_url, seconds=_PATIENCE):
            log.warning("W&B does not answer within %.0f s; this run is kept offline", _PATIENCE)
            return "offline"
        return "online"

    def _init(self, info: RunInfo) -> Any:
        import wandb

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
                settings=wandb.Settings(
                    # Progress bars would fill the console log with control characters.
                    console="off",
                    silent=True,
                    init_timeout=_INIT_SECONDS,
                    finish_timeout=_FINISH_SECONDS,
                ),
            )

        mode = self._mode()
        try:
            return init(mode)
        except (wandb.errors.UsageError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"W&B refuses tracker.project={self.project!r}, tracker.entity={self.entity!r}: "
                f"{reason}"
            ) from error
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
