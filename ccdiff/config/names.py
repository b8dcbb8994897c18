"""Names that moved: configs of runs, checkpoints and exports that people keep hold them."""

from collections.abc import Mapping
from typing import Any, cast

__all__ = [
    "ADDED",
    "MOVED",
    "as_of_0_1_0",
    "as_of_today",
    "class_names",
    "renamed",
    "with_new_names",
]

_DIFFUSION = (
    *("conditioning", "denoiser", "guidance", "oracle", "predictions", "samplers"),
    *("schedules", "thresholding", "times", "weightings"),
)
_FILES = (
    *("celebahq", "class_folders", "decode", "folder", "image_files", "listing", "parquet"),
    *("preparation", "prepared", "source", "tables"),
)

MOVED = {
    **{f"ccdiff.{name}": f"ccdiff.diffusion.{name}" for name in _DIFFUSION},
    **{f"ccdiff.data.{name}": f"ccdiff.data.files.{name}" for name in _FILES},
    "ccdiff.objective": "ccdiff.diffusion.objectives",
    "ccdiff.grids": "ccdiff.diffusion.samplers.grids",
    "ccdiff.evaluation": "ccdiff.metrics",
    "ccdiff.training.trackers": "ccdiff.runs.tracker",
    "ccdiff.weaker.load_weaker": "ccdiff.trained.run.load_weak_model",
    "ccdiff.edit_tasks": "ccdiff.edit.tasks",
    "ccdiff.edit_variations": "ccdiff.edit.variations",
    "ccdiff.sweeps": "ccdiff.launch.sweeps",
}
"""Modules, packages and what in them has another name, from version 0.1.0 to today."""


ADDED: dict[str, dict[str, Any]] = {
    "objective": {"_target_": "ccdiff.diffusion.objectives.Denoising", "_partial_": True},
    "auxiliary": {"_target_": "ccdiff.diffusion.auxiliaries.NoAuxiliary"},
    "augment": {"_target_": "ccdiff.diffusion.augmentations.NoAugmentation"},
    "coupling": {"_target_": "ccdiff.diffusion.couplings.Independent"},
}
"""Groups that came since version 0.1.0, each as it was in every run of before."""


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


def as_of_today(config: dict[str, Any]) -> dict[str, Any]:
    """A copy of a whole config with the names of today, and with the groups that it lacks."""
    renewed = cast(dict[str, Any], with_new_names(config))
    if "weighting" in renewed:
        for group, node in ADDED.items():
            renewed.setdefault(group, dict(node))
    return renewed


def as_of_0_1_0(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same as version 0.1.0 wrote it, by which its records know a config."""
    added = {**ADDED, "init_from": None}
    old = {k: v for k, v in config.items() if k not in added or v != added[k]}
    return cast(dict[str, Any], with_new_names(old, {new: old for old, new in MOVED.items()}))


def class_names(config: Mapping[str, Any]) -> dict[str, str]:
    """The class of each group in lower case, where nobody knows any more which option it was."""
    return {
        group: str(node["_target_"]).rpartition(".")[2].lower()
        for group, node in config.items()
        if isinstance(node, Mapping) and "_target_" in node
    }
