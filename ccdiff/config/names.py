"""Names that moved: configs of runs, checkpoints and exports that people keep hold them."""

from collections.abc import Mapping
from typing import Any

__all__ = ["MOVED", "renamed", "with_new_names", "with_old_names"]

_DIFFUSION = (
    *("conditioning", "denoiser", "guidance", "objective", "oracle", "predictions", "samplers"),
    *("schedules", "thresholding", "times", "weightings"),
)
_FILES = (
    *("celebahq", "class_folders", "decode", "folder", "image_files", "listing", "parquet"),
    *("preparation", "prepared", "source", "tables"),
)

MOVED = {
    **{f"ccdiff.{name}": f"ccdiff.diffusion.{name}" for name in _DIFFUSION},
    **{f"ccdiff.data.{name}": f"ccdiff.data.files.{name}" for name in _FILES},
    "ccdiff.grids": "ccdiff.diffusion.samplers.grids",
    "ccdiff.evaluation": "ccdiff.metrics",
    "ccdiff.training.trackers": "ccdiff.runs.tracker",
    "ccdiff.weaker.load_weaker": "ccdiff.trained.run.load_weak_model",
    "ccdiff.edit_tasks": "ccdiff.edit.tasks",
    "ccdiff.edit_variations": "ccdiff.edit.variations",
    "ccdiff.sweeps": "ccdiff.launch.sweeps",
}
"""Modules, packages and what in them has another name, from version 0.1.0 to today."""


def renamed(target: str, moves: Mapping[str, str] = MOVED) -> str:
    """A dotted name as it is today: ``ccdiff.schedules.Cosine`` is in ``ccdiff.diffusion``.

    Arguments:
        target: The name of a class or function.
        moves: Of modules and packages; of two that fit, the longer one counts.
    """
    module, rest = target, ""
    while module:
        if module in moves:
            return moves[module] + rest
        module, _, last = module.rpartition(".")
        rest = f".{last}{rest}"
    return target


def with_new_names(node: Any, moves: Mapping[str, str] = MOVED) -> Any:
    """A copy of nested dicts and lists in which every ``_target_`` has its name of today."""
    if isinstance(node, dict):
        return {
            key: renamed(value, moves)
            if key == "_target_" and isinstance(value, str)
            else with_new_names(value, moves)
            for key, value in node.items()
        }
    return [with_new_names(child, moves) for child in node] if isinstance(node, list) else node


def with_old_names(node: Any) -> Any:
    """The same with the names of version 0.1.0, by which its records know a config."""
    return with_new_names(node, {new: old for old, new in MOVED.items()})
