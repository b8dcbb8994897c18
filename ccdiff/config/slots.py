"""What each group of a config is for, and the values that its class takes.

A config may come with a stranger's checkpoint, so a group builds what the group is for and nothing
else, from plain values: text, numbers, booleans, null, lists and dicts of these. Each value is
checked against the annotation of its parameter, so that ``data.flip=no`` is false, and not a text
that counts as true.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.utils import get_object

from ccdiff.config.allowed import check_targets
from ccdiff.config.values import Refused, arguments
from ccdiff.errors import UserError

__all__ = ["SLOTS", "Slot", "checked"]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What a group is for.

    Arguments:
        bases: Dotted names of the classes of which its class must be one.
        later: How many of its first parameters are given later, by a call; with any it is partial.
        called_with: How many arguments its ``forward`` must take; 0 where it is no network.
    """

    bases: tuple[str, ...]
    later: int = 0
    called_with: int = 0


SLOTS = {
    "data": Slot(bases=("ccdiff.data.core.DataSet",)),
    "model": Slot(bases=("torch.nn.Module",), called_with=3),
    "conditioning": Slot(bases=("ccdiff.diffusion.conditioning.Conditioning",)),
    "schedule": Slot(bases=("ccdiff.diffusion.schedules.Schedule",)),
    "prediction": Slot(bases=("ccdiff.diffusion.predictions.Prediction",)),
    "objective": Slot(bases=("ccdiff.diffusion.objectives.Objective",), later=2),
    "weighting": Slot(bases=("ccdiff.diffusion.weightings.Weighting",)),
    "times": Slot(bases=("ccdiff.diffusion.times.TimeDensity",)),
    "auxiliary": Slot(bases=("ccdiff.diffusion.auxiliaries.Auxiliary",)),
    "augment": Slot(bases=("ccdiff.diffusion.augmentations.Augmentation",)),
    "coupling": Slot(bases=("ccdiff.diffusion.couplings.Coupling",)),
    "optimizer": Slot(bases=("torch.optim.Optimizer",), later=1),
    "ema": Slot(bases=("ema_pytorch.EMA", "ema_pytorch.KarrasEMA"), later=1),
    "sampler": Slot(bases=("ccdiff.diffusion.samplers.Sampler",)),
    "threshold": Slot(bases=("ccdiff.diffusion.thresholding.Threshold",)),
    "guidance": Slot(bases=("ccdiff.diffusion.guidance.Guidance",)),
    "tracker": Slot(bases=("ccdiff.runs.tracker.Tracker",)),
    "extractor": Slot(bases=("ccdiff.metrics.extractors.Source",)),
    "task": Slot(bases=("ccdiff.edit.tasks.Task",)),
}
"""By the key of the group."""


def checked(node: Any, key: str, *, typed: Mapping[str, str] | None = None) -> Any:
    """The values that a group's class is built from, each of the type that the class wants.

    Arguments:
        node: Of the config, as plain dicts, lists and scalars. A value that is text with ``${``
            stays as it is, as it is not known yet.
        key: Of the group.
        typed: By key, the text that stands for a value where text is wanted and the value is none.

    Raises:
        UserError: Where the class is none for this group, or does not take a value.
    """
    slot = SLOTS[key]
    check_targets(node)
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"{key} names no class: it takes a _target_, got {node!r}")
    bases = tuple(get_object(base) for base in slot.bases)
    cls = get_object(node["_target_"])
    if not (isinstance(cls, type) and issubclass(cls, bases) and _takes(cls, slot.called_with)):
        names = " or ".join(base.rpartition(".")[2] for base in slot.bases)
        raise UserError(
            f"{key}._target_={node['_target_']} is no {names}, which is what {key} is for"
        )
    if bool(node.get("_partial_")) is not bool(slot.later):
        raise UserError(f"{key}._partial_ must be {str(bool(slot.later)).lower()}")
    try:
        return arguments(node, cls, key, later=slot.later)
    except Refused as refused:
        text = (typed or {}).get(refused.key)
        if text is None:
            raise
        others = {name: other for name, other in (typed or {}).items() if name != refused.key}
        try:
            return checked(_with(node, refused.key.split(".")[1:], text), key, typed=others)
        except Refused as again:
            raise refused if again.key == refused.key else again from None


def _with(node: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of nested dicts with another value in one place."""
    name, *inside = path
    return {**node, name: _with(node[name], inside, value) if inside else value}


def _takes(cls: type, number: int) -> bool:
    """Whether a network's ``forward`` takes so many arguments after itself."""
    if not number:
        return True
    accepted = list(inspect.signature(cls.forward).parameters.values())[1:]  # type: ignore[attr-defined]
    required = [p for p in accepted if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return len(required) == number
