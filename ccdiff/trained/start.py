"""Beginning a run with the weights of another one."""

import logging

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import open_checkpoint
from ccdiff.trained.run import trained_denoiser

__all__ = ["start_from"]

log = logging.getLogger(__name__)

_SHOWN = 5


def start_from(denoiser: Denoiser, reference: str, *, weights: str = "ema") -> None:
    """Gives a new model the weights of a trained run, each where the name is the same.

    What the model has beside keeps its first values; what it has not is left out. Either is told.

    Arguments:
        denoiser: The new model, changed in place.
        reference: A run directory, whose newest checkpoint is taken, a checkpoint file, or
            ``latest``; opened as a stranger's.
        weights: ``ema`` or ``raw``.

    Raises:
        UserError: Where there is no such run, a shape differs, or nothing matches; then nothing
            is changed.
    """
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


def _named(lead: str, names: list[str]) -> str:
    """Some names for the log; nothing where there are none."""
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{lead} {', '.join(names[:_SHOWN])}{more}" if names else ""


def _brief(value: object) -> str:
    if isinstance(value, tuple):
        return f"{', '.join(map(str, value[:_SHOWN]))}{', ...' if len(value) > _SHOWN else ''}"
    return str(value)
