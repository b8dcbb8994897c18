"""Before the first step: does everything fit together, and how big is it?"""

import copy
import logging
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from ccdiff.data import Split, to_float
from ccdiff.denoiser import Denoiser
from ccdiff.errors import UserError
from ccdiff.objective import Objective

__all__ = ["Size", "check_fit", "measure"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Size:
    """How big a model is.

    Arguments:
        parameters: Trainable numbers.
        flops: Floating-point operations of one forward pass for one image.
    """

    parameters: int
    flops: int

    def __str__(self) -> str:
        return (
            f"{self.parameters / 1e6:.2f} million parameters, "
            f"{self.flops / 1e9:.3f} GFLOPs per image forward"
        )


def measure(denoiser: Denoiser, split: Split) -> Size:
    """Counts parameters and operations without computing anything (on the meta device)."""
    ghost = copy.deepcopy(denoiser).to("meta")
    one = split.take(1)
    x, y = to_float(one.images.to("meta")), one.labels.to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(x, torch.zeros(1, device="meta"), y)
    parameters = sum(p.numel() for p in denoiser.parameters() if p.requires_grad)
    return Size(parameters, counter.get_total_flops())


def check_fit(denoiser: Denoiser, objective: Objective, split: Split) -> None:
    """Passes one real batch and its labels through everything.

    Raises:
        UserError: Where labels, images and model do not fit together, with the fix.
    """
    denoiser.conditioning.check(split.labels)
    device = next(denoiser.parameters()).device
    few = split.take(2)
    x0, y = to_float(few.images.to(device)), few.labels.to(device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        loss = objective(denoiser, x0, y, generator)
    if not torch.isfinite(loss).all():
        raise UserError(
            f"the loss of the untrained model is {loss.tolist()}: schedule, prediction and "
            f"weighting do not fit together"
        )
