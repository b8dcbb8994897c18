"""Drawing rare labels more often: weights of images, and an epoch drawn by weight."""

import torch
from torch import Tensor

from ccdiff.errors import UserError
from ccdiff.seeding import generator_for

__all__ = ["balanced_order", "weights_for"]

# How strongly rarity counts: an image of a label that n images have weighs n^-power.
_POWERS = {"sqrt": 0.5, "class": 1.0}


def weights_for(labels: Tensor, balance: str) -> Tensor | None:
    """How often each image is drawn, relative to the others.

    ``class`` draws every class equally often and ``sqrt`` in proportion to the square root of its
    size (Mahajan et al., Exploring the Limits of Weakly Supervised Pretraining, 2018,
    arXiv:1805.00932). With attributes, an image counts as a member of the smallest of the 2 K
    groups that share the presence or absence of one attribute with it.

    Arguments:
        labels: int64 [N], uint8 [N, K], or numbers, which only ``none`` takes.
        balance: ``none``, ``class`` or ``sqrt``.

    Returns:
        float64 [N] that sum to one, or nothing where all images are drawn equally often.
    """
    if balance == "none":
        return None
    if balance not in _POWERS:
        raise UserError(f"data.balance must be none, sqrt or class, got {balance!r}")
    if labels.is_floating_point():
        raise UserError(
            f"data.balance={balance} draws rare classes more often, but labels are real numbers, "
            f"which have none: pass data.balance=none"
        )
    if labels.ndim == 1:
        size = labels.bincount()[labels]
    else:
        present = labels.long().sum(0)
        size = torch.where(labels.bool(), present, len(labels) - present).amin(1)
    weights = size.double() ** -_POWERS[balance]
    return weights / weights.sum()


def balanced_order(weights: Tensor, seed: int, epoch: int) -> Tensor:
    """As many draws as images, int64 [N]: a pure function of its arguments.

    Image ``i`` is drawn ``N w_i`` times, rounded up or down at random (systematic resampling), so
    rare images come back evenly and not by chance.

    Arguments:
        weights: float64 [N], sum to one.
        seed: Of the run.
        epoch: Counted in N draws.
    """
    n = len(weights)
    generator = generator_for(seed, "balanced order", epoch)
    shuffled = torch.randperm(n, generator=generator)
    ends = weights[shuffled].cumsum(0)
    points = torch.arange(n) + torch.rand(1, generator=generator, dtype=torch.float64)
    # Rounding must not leave the last point beyond the last end.
    place = torch.searchsorted(ends * (n / ends[-1]), points, right=True).clamp(max=n - 1)
    return shuffled[place][torch.randperm(n, generator=generator)]
