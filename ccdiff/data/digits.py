"""The embedded default: 1,797 real handwritten digits of 8 x 8 pixels, no download."""

from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch

from ccdiff.data.core import DataSet, Split

__all__ = ["Digits"]

_FILE = "sklearn/datasets/data/digits.csv.gz"


@dataclass(frozen=True, kw_only=True, eq=False)
class Digits(DataSet):
    """scikit-learn's copy of the UCI test set of handwritten digits (Alpaydin & Kaynak, 1998).

    Every tenth image of each class is held out.
    """

    def read(self) -> tuple[Split, Split]:
        cells, labels = torch.from_numpy(_rows()).split([64, 1], dim=1)
        # Ink is counted from 0 to 16 in each cell of the original bitmaps.
        ink = (cells / 16 * 255).round().to(torch.uint8).reshape(-1, 1, 8, 8)
        labels = labels.squeeze(1).long()
        heldout = torch.zeros(len(ink), dtype=torch.bool)
        # Within each class: the file repeats the classes in an order that is nearly periodic.
        for label in range(10):
            heldout[(labels == label).nonzero().squeeze(1)[9::10]] = True
        return Split(ink[~heldout], labels[~heldout]), Split(ink[heldout], labels[heldout])


def _rows() -> np.ndarray:
    """The 64 cells of each digit and its label, [1797, 65]."""
    path = Path(str(distribution("scikit-learn").locate_file(_FILE)))
    if path.exists():
        # All else that importing scikit-learn brings takes two seconds of every start.
        return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])
