"""Grids and coefficients that were fitted to a run, kept beside its checkpoints as numbers."""

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
_GRID = "ccdiff.diffusion.samplers.grids.Fitted"
_SAMPLERS = (
    "ccdiff.diffusion.samplers.FittedMultistep",
    "ccdiff.diffusion.samplers.fitted.FittedMultistep",
)


@dataclass(frozen=True, kw_only=True)
class FittedGrid:
    """A grid with where it comes from.

    Arguments:
        levels: ``log_snr`` before each step, rising.
        rms: Root mean square to the ODE's solution, on other noise than it was fitted to.
        rms_before: The same with the sampler's own grid.
        step: Training step of the checkpoint that it was fitted to.
        weights: ``ema`` or ``raw``.
        coefficients: Of ``sampler=fitted``, a row for each step.
    """

    levels: Sequence[float]
    rms: float
    rms_before: float
    step: int
    weights: str
    coefficients: Sequence[Sequence[float]] | None = None


def keep_grid(run: Run, sampler: Sampler, grid: FittedGrid) -> Path:
    """Adds a grid to the file of a run, in place of an earlier one for as many steps."""
    path = run.path / GRIDS_FILE
    grids = _read(path) if path.exists() else {}
    entry = {name: value for name, value in asdict(grid).items() if value is not None}
    grids[_key(sampler.name, sampler.steps)] = entry
    write_text(path, json.dumps(dict(sorted(grids.items())), indent=1))
    return path


def fill_in_grid(node: DictConfig, run: Run) -> None:
    """Puts what was fitted to a run into the config of a sampler that asks for it.

    Arguments:
        node: The config of a sampler: ``sampler=fitted``, which gets levels and coefficients, or
            another one with ``sampler/grid=fitted``, which gets levels. Else it stays as it is.
        run: Where to look.

    Raises:
        UserError: Where none was fitted for this sampler and number of steps.
    """
    grid = node.get("grid")
    whole = node.get("_target_") in _SAMPLERS
    if whole and node.get("coefficients"):
        return
    if not whole and (not grid or grid.get("_target_") != _GRID or grid.get("levels")):
        return
    name, path = node.get("name"), run.path / GRIDS_FILE
    grids = _read(path) if path.exists() else {}
    if _key(name, node.steps) not in grids:
        there = f"fitted are {', '.join(grids)}" if grids else "none was fitted"
        asked = f"sampler={name}" if whole else "sampler/grid=fitted"
        missing = "coefficients" if whole else "grid"
        raise UserError(
            f"{asked}: {run.path} has no {missing} for {name} with {node.steps} steps "
            f"({there}): python -m ccdiff.fit run={run.path} sampler={name} steps=[{node.steps}]"
        )
    entry = grids[_key(name, node.steps)]
    levels = _levels(entry, path)
    if whole:
        node.grid = {"_target_": _GRID, "levels": levels}
        node.coefficients = _coefficients(entry, path)
    else:
        grid.levels = levels


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


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(v, int | float) and math.isfinite(v) for v in values
    )


def _coefficients(entry: Any, path: Path) -> list[list[float]]:
    rows = entry.get("coefficients") if isinstance(entry, dict) else None
    if not isinstance(rows, list) or not rows or not all(map(_are_numbers, rows)):
        raise UserError(f"{path} holds something other than rows of coefficients: fit again")
    return [[float(value) for value in row] for row in rows]


def _levels(entry: Any, path: Path) -> list[float]:
    levels = entry.get("levels") if isinstance(entry, dict) else None
    if not levels or not _are_numbers(levels) or any(b <= a for a, b in pairwise(levels)):
        raise UserError(f"{path} holds something other than rising levels: fit again")
    return [float(v) for v in levels]
