"""Whether an image shows what its label says, in the eyes of a classifier or a regressor."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "AttributeScore",
    "Attributes",
    "Confusion",
    "NumberScore",
    "Numbers",
    "agreements",
    "label_agreement",
]


def label_agreement(logits: Tensor, y: Tensor, drop: Tensor | None = None) -> float:
    """How far the labels of images are found in them: in [0, 1], or of numbers an error.

    Of classes, the share of images whose largest logit is that of their class. Of attributes, the
    mean over attributes of balanced accuracy, which is the mean of both recalls: how many of the
    images with the attribute are found to have it, and of those without it not to. Most attributes
    are rare, so that the plain share of right answers is high for noise too; balanced accuracy is
    one half for whatever does not look at the label. Of numbers, the mean over images and numbers
    of the absolute difference, which is smaller where they agree better.

    Arguments:
        logits: [B, K].
        y: Class indices [B], or attributes [B, K], present where a logit is positive, or numbers
            float32 [B, K], standardised as the logits are, and NaN where none was asked for.
        drop: Attributes that were left open and do not count, bool [B, K].
    """
    return agreements(logits, y, drop).mean().item()


def agreements(logits: Tensor, y: Tensor, drop: Tensor | None = None) -> Tensor:
    """The part that each image has in :func:`label_agreement`, float64 [B]: its mean is that.

    Of classes it is 1 or 0. Of attributes it is a weighted share of right answers, and depends on
    how often they are present among all of these images: give whole sets. Of numbers it is the
    error of those that were asked for, and depends on how many these are in all.

    Arguments: as for :func:`label_agreement`.
    """
    if y.ndim == 1:
        return (logits.argmax(1) == y).double()
    if y.is_floating_point():
        asked = ~y.isnan()
        errors = torch.where(asked, (logits.double() - y.double()).abs(), 0.0)
        return len(y) * errors.sum(1) / asked.sum().clamp(min=1)
    present = y.bool()
    told = torch.ones_like(present) if drop is None else ~drop
    right = ((logits > 0) == present) & told
    shares = torch.zeros(y.shape, dtype=torch.float64, device=y.device)
    sides = torch.zeros(y.shape[1], dtype=torch.float64, device=y.device)
    for side in (present & told, ~present & told):
        n = side.sum(0)
        shares += torch.where(side & right, 1 / n.clamp(min=1).double(), 0.0)
        sides += n > 0
    # Attributes that all images have are known by one recall; those left open do not count.
    asked = sides > 0
    return len(y) * (shares[:, asked] / sides[asked]).mean(1)


class Confusion:
    """How often images of each class are taken for which, in constant memory.

    Arguments:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.long)
        """[asked for, taken for]."""

    def add(self, logits: Tensor, y: Tensor) -> None:
        """Takes in a batch: logits [B, K] and class indices [B]."""
        k = len(self.counts)
        self.counts += torch.bincount(y * k + logits.argmax(1), minlength=k * k).reshape(k, k)

    @property
    def per_class(self) -> Tensor:
        """Agreement of each class, float64 [K]; nan where it was never asked for."""
        return self.counts.diagonal().double() / self.counts.sum(1)


class AttributeScore(NamedTuple):
    """How an attribute comes out, each in [0, 1]; nan where nothing is there to divide by."""

    precision: float
    recall: float
    f1: float
    balanced: float
    """The mean of both recalls: one half for what does not look at the label."""
    base_rate: float
    """The share of images that were asked to have it: the F1 of yes to all is 2 b / (1 + b)."""


class Attributes:
    """How often each attribute is found where it was asked for, in constant memory.

    Arguments:
        num_attributes: K.
    """

    def __init__(self, num_attributes: int) -> None:
        self._found = torch.zeros(num_attributes, dtype=torch.long)
        self._asked = torch.zeros(num_attributes, dtype=torch.long)
        self._both = torch.zeros(num_attributes, dtype=torch.long)
        self._n = 0

    def add(self, logits: Tensor, y: Tensor) -> None:
        """Takes in a batch: logits [B, K] and attributes [B, K]."""
        found, asked = logits > 0, y.bool()
        self._found += found.sum(0)
        self._asked += asked.sum(0)
        self._both += (found & asked).sum(0)
        self._n += len(y)

    @property
    def scores(self) -> list[AttributeScore]:
        """One per attribute."""
        precision = self._both.double() / self._found
        recall = self._both.double() / self._asked
        f1 = 2 * self._both.double() / (self._found + self._asked)
        without = self._n - self._asked
        refused = (without - self._found + self._both).double() / without
        balanced = (recall + refused) / 2
        rate = self._asked.double() / self._n
        rows = torch.stack([precision, recall, f1, balanced, rate], dim=1).tolist()
        return [AttributeScore(*row) for row in rows]


class NumberScore(NamedTuple):
    """How a number comes out; nan where it was asked for too seldom to tell."""

    error: float
    """Mean absolute difference of what is found and what was asked for, standardised."""
    correlation: float
    """Of what is found with what was asked for, in [-1, 1]: 0 for what does not look at it."""


class Numbers:
    """How far numbers that were asked for are found, in constant memory.

    Arguments:
        num_numbers: K.
    """

    def __init__(self, num_numbers: int) -> None:
        self._n = torch.zeros(num_numbers, dtype=torch.long)
        self._error = torch.zeros(num_numbers, dtype=torch.float64)
        self._sums = torch.zeros(5, num_numbers, dtype=torch.float64)

    def add(self, logits: Tensor, y: Tensor) -> None:
        """Takes in a batch: logits and numbers [B, K], standardised alike."""
        asked = ~y.isnan()
        found, y = (torch.where(asked, u.double(), 0.0) for u in (logits, y))
        self._n += asked.sum(0)
        self._error += (found - y).abs().sum(0)
        moments = (found, y, found * found, y * y, found * y)
        self._sums += torch.stack([moment.sum(0) for moment in moments])

    @property
    def scores(self) -> list[NumberScore]:
        """One per number."""
        found, y, found_2, y_2, both = self._sums / self._n
        spread = ((found_2 - found**2) * (y_2 - y**2)).clamp(min=0).sqrt()
        rows = torch.stack([self._error / self._n, (both - found * y) / spread], dim=1).tolist()
        return [NumberScore(*row) for row in rows]
