"""Whether an image shows what its label says, in the eyes of a classifier."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["AttributeScore", "Attributes", "Confusion", "agreements", "label_agreement"]


def label_agreement(logits: Tensor, y: Tensor, drop: Tensor | None = None) -> float:
    """The share of labels, in [0, 1], that the classifier finds in the images.

    Arguments:
        logits: [B, K].
        y: Class indices [B], which agree where the largest logit is theirs, or attributes [B, K],
            each of which agrees where its logit has the right sign.
        drop: Attributes that were left open and do not count, bool [B, K].
    """
    if y.ndim == 1 or drop is None:
        return agreements(logits, y).mean().item()
    return ((logits > 0) == y.bool())[~drop].double().mean().item()


def agreements(logits: Tensor, y: Tensor) -> Tensor:
    """The share of its labels that the classifier finds in each image, float64 [B]."""
    if y.ndim == 1:
        return (logits.argmax(1) == y).double()
    return ((logits > 0) == y.bool()).double().mean(1)


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


class Attributes:
    """How often each attribute is found where it was asked for, in constant memory.

    Arguments:
        num_attributes: K.
    """

    def __init__(self, num_attributes: int) -> None:
        self._found = torch.zeros(num_attributes, dtype=torch.long)
        self._asked = torch.zeros(num_attributes, dtype=torch.long)
        self._both = torch.zeros(num_attributes, dtype=torch.long)

    def add(self, logits: Tensor, y: Tensor) -> None:
        """Takes in a batch: logits [B, K] and attributes [B, K]."""
        found, asked = logits > 0, y.bool()
        self._found += found.sum(0)
        self._asked += asked.sum(0)
        self._both += (found & asked).sum(0)

    @property
    def scores(self) -> list[AttributeScore]:
        """One per attribute."""
        precision = self._both.double() / self._found
        recall = self._both.double() / self._asked
        f1 = 2 * self._both.double() / (self._found + self._asked)
        rows = torch.stack([precision, recall, f1], dim=1).tolist()
        return [AttributeScore(*row) for row in rows]
