"""Run directories: where a run keeps what, and finding one again.

``config.yaml``, ``metrics.jsonl``, ``checkpoints/step_*.pt`` and ``best.pt``, ``samples/``,
``evaluation/``, ``wandb/``.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ccdiff.errors import UserError
from ccdiff.system.atomic import made_folder
from ccdiff.system.locks import locked

__all__ = ["Run", "find_checkpoint", "output_folder", "refuse_filled", "run_of"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Run:
    """The files of one run; a notebook shows what it is, what it draws and how it went.

    Arguments:
        path: The run directory.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The whole resolved config."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Grids drawn during training."""
        return self.path / "samples"

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of ``step`` goes."""
        return self.path / "checkpoints" / f"step_{step:08d}.pt"

    @property
    def best_checkpoint(self) -> Path:
        """Where the checkpoint goes whose samples were best, beside the latest ones."""
        return self.path / "checkpoints" / "best.pt"

    def checkpoints(self) -> list[Path]:
        """All checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step_*.pt"))

    def latest_checkpoint(self) -> Path:
        """The newest checkpoint.

        Raises:
            UserError: Where there is none.
        """
        if found := self.checkpoints():
            return found[-1]
        raise UserError(
            f"{self.path} holds no checkpoint: training writes one every trainer.checkpoint_every "
            f"steps and at its end"
        )

    def snapshot(self, step: int) -> Path:
        """Where the averages of ``step`` go, of which those of other widths are made."""
        return self.path / "averages" / f"step_{step:08d}.pt"

    def snapshots(self) -> dict[int, Path]:
        """All such averages by their step, oldest first."""
        found = sorted((self.path / "averages").glob("step_*.pt"))
        numbers = (path.stem.removeprefix("step_") for path in found)
        return {int(n): p for n, p in zip(numbers, found, strict=True) if n.isdecimal()}

    def set_aside_after(self, step: int) -> None:
        """Renames what is of later steps to ``*.aside``, and removes unfinished checkpoints.

        A run that goes on from ``step`` takes those steps anew; until it has, nobody may take
        their old checkpoints for its newest.
        """
        for path in (*self.checkpoints(), *self.snapshots().values()):
            if path.name > self.checkpoint(step).name:
                aside = path.with_name(f"{path.name}.aside")
                os.replace(path, aside)
                log.warning("going on from step %d: %s is now %s", step, path.name, aside.name)
        for unfinished in (self.path / "checkpoints").glob(".step_*.partial"):
            unfinished.unlink()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lets one process at a time train in the directory; a killed one leaves no lock behind.

        Raises:
            UserError: Where another process does.
        """
        self.path.mkdir(parents=True, exist_ok=True)

        def refuse(holder: str) -> None:
            raise UserError(
                f"{self.path} is being trained by another process ({holder}):"
                f" wait for it, stop it, or pass another hydra.run.dir"
            )

        with locked(self.path / ".lock", busy=refuse):
            yield

    def __repr__(self) -> str:
        from ccdiff.runs.showing import line_of

        return line_of(self)

    def _repr_html_(self) -> str:
        from ccdiff.runs.showing import html_of

        return html_of(self)


def run_of(checkpoint: Path) -> Run:
    """The run that a checkpoint belongs to (its own folder, where it was moved out of one)."""
    parent = checkpoint.absolute().parent
    return Run(parent.parent if parent.name == "checkpoints" else parent)


_DEPTH = 3
_PLACES = (
    *(f"{folder}/**/checkpoints/step_*.pt" for folder in ("outputs", "multirun")),
    # Where else hydra.run.dir may have put a run; deeper, there may be millions of images.
    *(f"{'[!.]*/' * depth}checkpoints/step_*.pt" for depth in range(1, _DEPTH + 1)),
)


def _latest(root: Path) -> Path:
    found = [
        (written, path)
        for pattern in _PLACES
        for path in root.glob(pattern)
        if (written := _written(path)) is not None
    ]
    if not found:
        raise UserError(
            f"run=latest: no checkpoint in outputs/ or multirun/ of {root.absolute()}, nor up to "
            f"{_DEPTH} folders deep elsewhere in it; name the folder of the run, or train one "
            f"with: python train.py"
        )
    return max(found)[1]


def _written(path: Path) -> float | None:
    """When a file was; None where it is gone, as the oldest checkpoint of a run in training is."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def find_checkpoint(reference: str, *, root: Path = Path()) -> Path:
    """The checkpoint that a user means.

    Arguments:
        reference: A run directory or its ``checkpoints`` (the newest one), a checkpoint file, or
            ``latest``.
        root: Where ``latest`` looks for runs.

    Raises:
        UserError: Where there is none.
    """
    if not reference:
        raise UserError("run= names no run: a run directory, a checkpoint file, or latest")
    if reference == "latest":
        return _latest(root)
    path = Path(reference).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(f"there is no run {reference}: no such file or folder{_hint(path)}")
    if path.resolve().name == "checkpoints":
        path = path.resolve().parent
    jobs = sorted(child.parent.name for child in path.glob("[!.]*/config.yaml"))
    if jobs and not Run(path).config.exists():
        raise UserError(f"{reference} is a sweep of {len(jobs)} runs; pick one: {jobs}")
    return Run(path).latest_checkpoint()


def _hint(path: Path) -> str:
    if not path.parent.is_dir():
        return "; latest takes the newest run"
    near = get_close_matches(path.name, [child.name for child in path.parent.iterdir()])
    return f"; did you mean {path.parent / near[0]}?" if near else "; latest takes the newest run"


def _numbered_folder(parent: Path) -> Path:
    """Makes the first free number, ``001``, ``002``, ..., under ``parent``."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        taken = [int(path.name) for path in parent.iterdir() if path.name.isdigit()]
        folder = parent / f"{max(taken, default=0) + 1:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue  # Another command was quicker.
        return folder


def refuse_filled(out: str | None) -> None:
    """Looks at the folder that a command shall write to, before it works.

    Raises:
        UserError: Where it is no folder, or holds something, which nothing shall be mixed with.
    """
    if out is None:
        return
    if not out:
        raise UserError("out= names no folder: pass one, or leave it out")
    path = Path(out).expanduser()
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            what = "not empty" if path.is_dir() else "a file"
            raise UserError(f"out={out} is {what}: pass another folder, or none")
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(
            f"out={out} cannot be looked into ({error}): pass another folder"
        ) from error


def output_folder(out: str | None, parent: Path) -> Path:
    """Makes the folder asked for, where there is none, or a numbered one under ``parent``.

    Raises:
        UserError: Where it cannot be made, or holds something.
    """
    refuse_filled(out)
    return _numbered_folder(parent) if out is None else made_folder(out)
