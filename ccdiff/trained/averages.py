"""Weights averaged over a width that is chosen after training, from snapshots of the run."""

import logging
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from ema_pytorch.post_hoc_ema import p_dot_p, sigma_rel_to_gamma, solve_weights
from omegaconf import DictConfig
from torch import Tensor

from ccdiff.errors import UserError
from ccdiff.metrics.cache import kept
from ccdiff.runs.averages import WIDEST, tracked_weights
from ccdiff.runs.checkpoints import Checkpoint
from ccdiff.runs.folder import Run

__all__ = ["Profile", "averaged_weights", "profile_of", "width_of"]

log = logging.getLogger(__name__)

_FAR = 0.05
"""How far a sum of profiles may be from the one asked for, as a share of it."""


class Profile:
    """How snapshots add up to an average, and how well.

    Arguments:
        weights: Of each snapshot, float64 [N].
        off: What is left of the profile asked for, as a share of its norm.
    """

    def __init__(self, weights: Tensor, off: float) -> None:
        self.weights = weights
        self.off = off


def width_of(weights: str) -> float | None:
    """The width that ``weights=0.12`` names; None where it is a word.

    Raises:
        UserError: Where it is a number that is no width.
    """
    try:
        width = float(weights)
    except ValueError:
        return None
    if not 0 < width < WIDEST:
        raise UserError(f"weights={weights}: a width lies between 0 and {WIDEST:.4f}")
    return width


def profile_of(
    steps: Sequence[int], widths: Sequence[float], *, step: int, sigma_rel: float
) -> Profile:
    """How snapshots add up to the average of another width.

    Karras et al., 2024 (arXiv:2312.02696), appendix C.3, algorithm 3: least squares on the
    averaging profiles.

    Arguments:
        steps: At which each snapshot was taken, [N].
        widths: Which each has, [N].
        step: At which the average is wanted.
        sigma_rel: The width that it shall have.
    """
    t = torch.tensor(steps, dtype=torch.float64)
    gamma = torch.tensor([sigma_rel_to_gamma(width) for width in widths], dtype=torch.float64)
    wanted_t = torch.tensor([step], dtype=torch.float64)
    wanted = torch.tensor([sigma_rel_to_gamma(sigma_rel)], dtype=torch.float64)
    weights = solve_weights(t, gamma, wanted_t, wanted).squeeze(-1)
    norm = p_dot_p(wanted_t, wanted, wanted_t, wanted)
    reached = (weights * p_dot_p(t, gamma, wanted_t, wanted)).sum()
    return Profile(weights, ((norm - reached) / norm).clamp(min=0).sqrt().item())


def averaged_weights(
    checkpoint: Checkpoint, run: Run | None, *, ema: DictConfig, sigma_rel: float
) -> dict[str, Tensor]:
    """The weights of a checkpoint, averaged over another width.

    Snapshots of later steps, of which a run that was rolled back may have some, are left out.

    Arguments:
        checkpoint: Of a run with ``ema=posthoc``.
        run: Its folder, with snapshots.
        ema: How the run was averaged.
        sigma_rel: The width asked for.

    Raises:
        UserError: Where the run was averaged otherwise, or snapshots are missing, damaged or of
            another model.
    """
    widths = ema.get("sigma_rels")
    if widths is None or run is None:
        raise UserError(
            f"weights={sigma_rel:g}: averages of any width are of runs that were trained with "
            f"ema=posthoc; this one has weights=ema and weights=raw"
        )
    widths = [float(width) for width in widths]
    here, step = tracked_weights(checkpoint["ema"]), checkpoint["step"]
    if len(here) != len(widths):
        raise UserError(
            f"the checkpoint has {len(here)} averages, but its config names {len(widths)}"
        )
    before = {number: path for number, path in run.snapshots().items() if number < step}
    if not before:
        raise UserError(
            f"weights={sigma_rel:g}: there are no snapshots in {run.snapshot(0).parent}, which "
            f"training with ema=posthoc writes: take the checkpoint where its run is"
        )
    steps = [number for number in (*before, step) for _ in widths]
    profile = profile_of(steps, [*widths] * (len(before) + 1), step=step, sigma_rel=sigma_rel)
    if profile.off > _FAR:
        log.warning(
            "%d snapshots of widths %s give an average of width %g only roughly: its profile is "
            "%.0f %% off; take a width nearer to those, or train with more ema.snapshots",
            len(before) + 1,
            ", ".join(f"{width:g}" for width in widths),
            sigma_rel,
            100 * profile.off,
        )
    parts = iter(profile.weights.tolist())
    total = {name: torch.zeros_like(value) for name, value in here[0].items()}
    for path in before.values():
        state = kept(path)
        for place in range(len(widths)):
            average = None if state is None else state.get(str(place))
            if not _fits(average, here[0]):
                raise UserError(
                    f"{path} is damaged or of another model: remove it, and the average is put "
                    f"together from the others"
                )
            _add(total, cast(dict[str, Tensor], average), next(parts))
    for average in here:
        _add(total, average, next(parts))
    return total


def _fits(average: object, like: Mapping[str, Tensor]) -> bool:
    return (
        isinstance(average, dict)
        and average.keys() == like.keys()
        and all(
            isinstance(value, Tensor)
            and value.shape == like[name].shape
            and value.is_floating_point() == like[name].is_floating_point()
            for name, value in average.items()
        )
    )


def _add(total: dict[str, Tensor], average: Mapping[str, Tensor], weight: float) -> None:
    for name, value in average.items():
        if value.is_floating_point():
            total[name].add_(value.to(total[name].dtype), alpha=weight)
        else:  # A count, say: that of the last.
            total[name].copy_(value)
