"""The embedded default: 1,797 real handwritten digits of 8 x 8 pixels, no download."""

import torch

from ccdiff.data.core import DataSet, Split

__all__ = ["Digits"]


class Digits(DataSet):
    """scikit-learn's copy of the UCI test set of handwritten digits (Alpaydin & Kaynak, 1998).

    Every tenth image of each class is held out.
    """

    def read(self) -> tuple[Split, Split]:
        # Imported here: it takes two seconds, which only a training run should pay.
        from sklearn.datasets import load_digits

        bunch = load_digits()
        # Ink is counted from 0 to 16 in each cell of the original bitmaps.
        ink = torch.from_numpy(bunch.images / 16 * 255).round().to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(bunch.target).long()
        heldout = torch.zeros(len(ink), dtype=torch.bool)
        # Within each class: the file repeats the classes in an order that is nearly periodic.
        for label in range(10):
            heldout[(labels == label).nonzero().squeeze(1)[9::10]] = True
        return Split(ink[~heldout], labels[~heldout]), Split(ink[heldout], labels[heldout])
