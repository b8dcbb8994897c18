"""Grids that were fitted to a run, kept beside its checkpoints as numbers alone."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ccdiff.diffusion.samplers import Sampler
from ccdiff.errors import UserError
from ccdiff.runs.folder import Run
from ccdiff.system.atomic import write_text

__all__ = ["GRIDS_FILE", "FittedGrid", "fill_in_grid", "keep_grid"]

GRIDS_FILE = "fitted_grids.json"
_CLASS = "ccdiff.diffusion.samplers.grids.Fitted"


@dataclass(frozen=True, kw_only=True)
class FittedGrid:
    """A grid with where it comes from.

    Arguments:
        levels: ``log_snr`` before each step, rising.
        rms: Root mean square to the ODE's solution, on other noise than it was fitted to.
        rms_before: The same with the sampler's own grid.
        step: Training step of the checkpoint that it was fitted to.
        weights: ``ema`` or ``raw``.
    """

    levels: Sequence[float]
    rms: float
    rms_before: float
    step: int
    weights: str


def keep_grid(run: Run, sampler: Sampler, grid: FittedGrid) -> Path:
    """Adds a grid to the file of a run, in place of an earlier one for as many steps."""
    path = run.path / GRIDS_FILE
    grids = _read(path) if path.exists() else {}
    grids[_key(sampler.name, sampler.steps)] = asdict(grid)
    write_text(path, json.dumps(dict(sorted(grids.items())), indent=1))
    return path


def fill_in_grid(node: DictConfig, run: Run) -> None:
    """Puts the run's grid into the config of a sampler that asks for ``sampler/grid=fitted``.

    Arguments:
        node: The config of a sampler; any other grid stays as it is.
        run: Where to look.

    Raises:
        UserError: Where none was fitted for this sampler and number of steps.
    """
    grid = node.get("grid")
    if not grid or grid.get("_target_") != _CLASS or grid.get("levels"):
        return
    name, path = node.get("name"), run.path / GRIDS_FILE
    grids = _read(path) if path.exists() else {}
    if _key(name, node.steps) not in grids:
        there = f"fitted are {', '.join(grids)}" if grids else "none was fitted"
        raise UserError(
            f"sampler/grid=fitted: {run.path} has no grid for {name} with {node.steps} steps "
            f"({there}): python -m ccdiff.fit run={run.path} sampler={name} steps=[{node.steps}]"
        )
    grid.levels = _levels(grids[_key(name, node.steps)], path)


def _key(name: str | None, steps: int) -> str:
    return f"{name}-{steps}"


def _read(path: Path) -> dict[str, Any]:
    try:
        grids = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it, and fit again") from error
    if not isinstance(grids, dict):
        raise UserError(f"{path} holds no grids: delete it, and fit again")
    return grids


def _levels(entry: Any, path: Path) -> list[float]:
    levels = entry.get("levels") if isinstance(entry, dict) else None
    numbers = isinstance(levels, list) and all(
        isinstance(v, int | float) and math.isfinite(v) for v in levels
    )
    if not levels or not numbers or any(b <= a for a, b in pairwise(levels)):
        raise UserError(f"{path} holds something other than rising levels: fit again")
    return [float(v) for v in levels]
