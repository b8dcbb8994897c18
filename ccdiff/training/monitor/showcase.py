"""Which labels the grids of a run show."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ccdiff.generation.pipeline import sample_seeds

__all__ = ["FIXED_SEEDS", "Showcase", "showcase"]

_MAX_ROWS = 12
_SEED = 0
FIXED_SEEDS = {"grids": _SEED}
"""Those that no setting changes; held-out noise is keyed by name alone."""


@dataclass(frozen=True)
class Showcase:
    """The labels and seeds of a run's grids: rows are labels, columns are fixed noises.

    Arguments:
        y: One label per row, [R] or [R, K].
        titles: One per row.
        columns: Images per row.
    """

    y: Tensor
    titles: Sequence[str]
    columns: int

    @property
    def labels(self) -> Tensor:
        """One label per image."""
        return self.y.repeat_interleave(self.columns, dim=0)

    @property
    def seeds(self) -> list[int]:
        """One per image; the same in runs of whatever seed, so that pictures of a sweep align."""
        return sample_seeds(_SEED, self.titles, self.columns)


def showcase(label_names: Sequence[str], labels: Tensor, *, columns: int) -> Showcase:
    """The classes in order, or the most frequent rows of attributes; at most twelve.

    Arguments:
        label_names: One per class or attribute.
        labels: Of the training images, [N] or [N, K].
        columns: Images per row.
    """
    if labels.ndim == 1:
        y = torch.arange(min(len(label_names), _MAX_ROWS))
        return Showcase(y, [label_names[i] for i in y], columns)
    rows, counts = labels.cpu().unique(dim=0, return_counts=True)
    y = rows[counts.argsort(descending=True, stable=True)[:_MAX_ROWS]]
    return Showcase(y, [_title(row, label_names) for row in y], columns)


def _title(bits: Tensor, label_names: Sequence[str]) -> str:
    present = [name for name, bit in zip(label_names, bits.tolist(), strict=True) if bit]
    return ", ".join(present) or "none"
