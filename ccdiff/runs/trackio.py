"""trackio as a tracker: figures and pictures on this machine, with a dashboard and no account."""

import contextlib
import importlib.util
import io
import logging
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ccdiff.errors import UserError
from ccdiff.runs.tracker import RunInfo, Tracker, TrackerSession
from ccdiff.system.stopping import Preempted

__all__ = ["TrackioTracker"]

log = logging.getLogger(__name__)

_PROJECT = re.compile(r"[A-Za-z0-9][\w .-]{0,63}")
_MOST_LETTERS = 100


class TrackioTracker(Tracker):
    """Keeps runs in trackio's folder on this machine; ``trackio show`` opens the dashboard.

    The folder is trackio's own, or what ``TRACKIO_DIR`` says. trackio heeds ``TRACKIO_SPACE_ID``
    and ``TRACKIO_SERVER_URL``, and sends figures elsewhere where you have set one of these.

    Arguments:
        project: What the runs are kept under.
    """

    def __init__(self, *, project: str) -> None:
        if importlib.util.find_spec("trackio") is None:
            raise UserError(
                "tracker=trackio needs trackio, which is not installed: pip install trackio (or "
                "uv sync --extra trackio), or pass tracker=none"
            )
        if not _PROJECT.fullmatch(project):
            raise UserError(
                f"tracker.project must be 1 to 64 letters, digits, spaces, dots, underscores and "
                f"hyphens, and begin with a letter or digit, got {project!r}"
            )
        self.project = project

    @contextmanager
    def session(self, info: RunInfo) -> Iterator[TrackerSession]:
        import trackio

        name = info.tracker_id or _name_of(info)
        try:
            with _quiet():
                run = trackio.init(
                    project=self.project,
                    name=name,
                    group=info.group,
                    config=_told(info),
                    resume="allow",
                    embed=False,
                )
        except ValueError as error:
            raise UserError(
                f"trackio refuses tracker.project={self.project!r}: {error}"
            ) from error
        log.info('trackio keeps the run; to see it: trackio show --project "%s"', self.project)
        try:
            yield _TrackioSession(run, name)
        except BaseException as error:
            stopped = isinstance(error, Preempted)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            level = trackio.AlertLevel.WARN if stopped else trackio.AlertLevel.ERROR
            with _quiet():
                run.alert("stopped" if stopped else "failed", text=reason, level=level)
                trackio.finish()
            raise
        with _quiet():
            trackio.finish()


class _TrackioSession(TrackerSession):
    def __init__(self, run: Any, name: str) -> None:
        self.run = run
        self.tracker_id = name  # trackio finds a run again by its name.

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        self.run.log(dict(values), step=step)

    def image(self, key: str, path: Path, *, step: int) -> None:
        import trackio

        # By path: the file is copied as it is.
        film = path.suffix == ".gif"
        media = trackio.Video(str(path), format="gif") if film else trackio.Image(str(path))
        self.run.log({key: media}, step=step)

    def table(self, key: str, rows: Sequence[Sequence[object]], *, step: int) -> None:
        import trackio

        header, *data = rows
        columns = [str(name) for name in header]
        # trackio reads text as Markdown, in which the text of a label could be anything.
        cells = [[_plain(cell) for cell in row] for row in data]
        self.run.log({key: trackio.Table(columns=columns, data=cells)}, step=step)


def _plain(cell: object) -> object:
    return re.sub(r"([\\`*_{}\[\]<>()#!|])", r"\\\1", cell) if isinstance(cell, str) else cell


def _name_of(info: RunInfo) -> str:
    """A name that no other run has; trackio makes a folder of it."""
    told = re.sub(r"[^\w .,=+-]+", "_", info.name or "run").strip(" .")[:_MOST_LETTERS]
    return f"{told or 'run'}-{uuid.uuid4().hex[:8]}"


def _told(info: RunInfo) -> dict[str, Any]:
    """The config; trackio keeps names with a leading underscore to itself."""
    kept = {f"config{key}" if key.startswith("_") else key: v for key, v in info.config.items()}
    return {**kept, "tags": list(info.tags)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps trackio's own lines off the console, where a progress bar may be."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        yield
    log.debug("%s", said.getvalue())
