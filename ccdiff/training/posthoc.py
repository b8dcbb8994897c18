"""Averages of the weights whose width is chosen after training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from ema_pytorch import KarrasEMA
from torch import Tensor, nn

from ccdiff.errors import UserError
from ccdiff.metrics.cache import keep
from ccdiff.runs.averages import WIDEST, tracked_weights
from ccdiff.runs.folder import Run
from ccdiff.training.state import TrainState

__all__ = ["PostHoc", "SaveSnapshot"]


class PostHoc(KarrasEMA):
    """Tracks several power-function averages, which together give those of other widths.

    Karras et al., Analyzing and Improving the Training Dynamics of Diffusion Models, 2024
    (arXiv:2312.02696), section 3 and appendix C: a weight average of any width is a sum of
    snapshots of two tracked ones. The first is what training looks at and draws with. Snapshots
    lie in the folder of the run, and an average is put together by ``weights=<width>``.

    Arguments:
        model: What is averaged.
        sigma_rels: Two widths or more, each the standard deviation of the averaging profile as a
            share of training so far, between 0 and 0.2887. The paper tracks 0.05 and 0.1.
        snapshots: How many are kept over a training. Narrow averages take more of them.

    Raises:
        UserError: Where widths are too few, alike or out of range.
    """

    def __init__(
        self, model: nn.Module, *, sigma_rels: Sequence[float] = (0.05, 0.1), snapshots: int = 40
    ) -> None:
        if len(set(sigma_rels)) < max(2, len(sigma_rels)):
            raise UserError(
                f"ema.sigma_rels must be two widths or more, no two alike, got {list(sigma_rels)}"
            )
        if not all(0 < sigma_rel < WIDEST for sigma_rel in sigma_rels):
            raise UserError(
                f"ema.sigma_rels must lie between 0 and {WIDEST:.4f}, got {list(sigma_rels)}"
            )
        if snapshots < 2:
            raise UserError(f"ema.snapshots must be at least 2, got {snapshots}")
        first, *others = sigma_rels
        super().__init__(model, sigma_rel=first, update_every=1)
        self.others = nn.ModuleList(
            KarrasEMA(model, sigma_rel=sigma_rel, update_every=1) for sigma_rel in others
        )
        self.snapshots = snapshots

    def update(self) -> None:
        """Takes the model's weights of this step into each average."""
        super().update()
        for other in self.others:
            cast(KarrasEMA, other).update()


@dataclass(frozen=True, kw_only=True)
class SaveSnapshot:
    """Writes the tracked averages to the run's folder, in half precision as in the paper.

    Arguments:
        every: Steps between snapshots.
        run: Where to.
    """

    every: int
    run: Run
    name: ClassVar[str] = "snapshot"

    def __call__(self, state: TrainState) -> None:
        averages: dict[str, Any] = {
            str(place): {name: _halved(value) for name, value in weights.items()}
            for place, weights in enumerate(tracked_weights(state.ema.state_dict()))
        }
        keep(averages, self.run.snapshot(state.step))


def _halved(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return value.to(torch.float16) if value.dtype is torch.float32 else value.clone()
