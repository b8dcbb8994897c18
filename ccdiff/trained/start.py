"""Beginning a run with the weights of another one."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from ccdiff.diffusion.conditioning import Conditioning
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import open_checkpoint
from ccdiff.trained.run import trained_denoiser

__all__ = ["keep_scale", "start_from"]

log = logging.getLogger(__name__)

_SHOWN = 5
_DIFFERS = 0.1
"""A scale that differs by less, in standard deviations, is none to speak of."""


def start_from(denoiser: Denoiser, reference: str, *, weights: str = "ema") -> dict[str, Tensor]:
    """Gives a new model the weights of a trained run, each where the name is the same.

    What the model has beside keeps its first values; what it has not is left out. Either is told.

    Arguments:
        denoiser: The new model, changed in place.
        reference: A run directory, whose newest checkpoint is taken, a checkpoint file, or
            ``latest``; opened as a stranger's.
        weights: ``ema`` or ``raw``.

    Returns:
        The units in which these weights know labels, for :func:`keep_scale`; none where they know
        other labels.

    Raises:
        UserError: Where there is no such run, a shape differs, or nothing matches; then nothing
            is changed.
    """
    if not reference.strip():
        raise UserError("init_from= names no run: a run directory, a checkpoint file, or latest")
    path, checkpoint = open_checkpoint(reference)
    before = trained_denoiser(checkpoint, weights=weights)
    theirs, ours = before.state_dict(), denoiser.state_dict()
    both = [name for name in ours if name in theirs]
    differing = [
        f"{name}: {list(theirs[name].shape)} there, {list(ours[name].shape)} here"
        for name in both
        if theirs[name].shape != ours[name].shape
    ]
    if differing or not both:
        reason = "; ".join(differing[:_SHOWN]) or "none of its weights has a name of this model's"
        raise UserError(
            f"init_from={reference}: the run's weights do not fit this model: {reason} "
            f"({len(differing)} of {len(both)} shapes differ). Give model, conditioning and data "
            "the settings that the run was trained with"
        )
    denoiser.load_state_dict({**ours, **{name: theirs[name] for name in both}})
    numbers = sum(ours[name].numel() for name in both)
    log.info(
        "beginning with the weights of %s, step %d: %d of %d tensors, %.2f million numbers%s",
        path,
        checkpoint["step"],
        len(both),
        len(ours),
        numbers / 1e6,
        _named("; new are", [name for name in ours if name not in theirs]),
    )
    if left := [name for name in theirs if name not in ours]:
        log.warning("%d tensors of the run have no place here%s", len(left), _named(":", left))
    for what, there, here in (
        ("labels", before.conditioning.label_names, denoiser.conditioning.label_names),
        ("prediction", before.prediction, denoiser.prediction),
    ):
        if there != here:
            log.warning(
                "the run was trained with other %s, so that its weights mean something else: %s "
                "there, %s here",
                what if what == "labels" else "targets",
                _brief(there),
                _brief(here),
            )
    if before.conditioning.label_names != denoiser.conditioning.label_names:
        return {}
    units = dict(before.conditioning.named_buffers())
    return {name: units[name] for name in denoiser.conditioning.scale if name in units}


def keep_scale(conditioning: Conditioning, scale: Mapping[str, Tensor]) -> None:
    """Has labels meet the weights of another run in the units that these know.

    An age of 30 is then what it was, though the images of today are of older people. What differs
    from the data of today is told.

    Arguments:
        conditioning: Fitted to the training images; changed in place.
        scale: As :func:`start_from` returns it.
    """
    buffers = dict(conditioning.named_buffers())
    fitted = {name: buffers[name].clone() for name in scale}
    for name, value in scale.items():
        buffers[name].copy_(value)
    if "std" not in scale:
        return
    std, now = scale["std"].double(), fitted["std"].double()
    moved = (fitted["mean"] - scale["mean"]).abs() / std
    differs = torch.maximum(moved, (now / std).log().abs()) > _DIFFERS
    for k in differs.nonzero().flatten().tolist():
        log.warning(
            "the weights know the number %s by mean %.4g and standard deviation %.4g, which is "
            "kept: in this data they are %.4g and %.4g",
            conditioning.label_names[k],
            scale["mean"][k],
            std[k],
            fitted["mean"][k],
            now[k],
        )


def _named(lead: str, names: list[str]) -> str:
    """Some names for the log; nothing where there are none."""
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{lead} {', '.join(names[:_SHOWN])}{more}" if names else ""


def _brief(value: object) -> str:
    if isinstance(value, tuple):
        return f"{', '.join(map(str, value[:_SHOWN]))}{', ...' if len(value) > _SHOWN else ''}"
    return str(value)
