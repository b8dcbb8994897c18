"""What the metrics remember of a stream of features, in memory that does not grow with it."""

from typing import Any

import torch
from torch import Tensor

from ccdiff.metrics.extractors import Seen
from ccdiff.metrics.frechet import Moments
from ccdiff.metrics.score import ClassScore

__all__ = ["Sketch"]

_MOST_NUMBERS = 2**27
"""Most numbers of features that are kept one by one, half a GB."""


class Sketch:
    """Moments of all features, the first ones as they are, and how sure a classifier is of them.

    Whoever adds sees to it that the first images speak for all: reference images come shuffled,
    and samples with their labels by turns.

    Arguments:
        scored: Whether logits are those of classes that exclude each other.
    """

    def __init__(self, *, scored: bool = False) -> None:
        self.moments = Moments()
        self.score = ClassScore() if scored else None
        self._features: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._kept = 0

    def add(self, seen: Seen, y: Tensor) -> None:
        """Takes in a batch and its labels, [B] or [B, K]."""
        self.moments.add(seen.features)
        if self.score is not None and seen.logits is not None:
            self.score.add(seen.logits)
        room = _MOST_NUMBERS // seen.features.shape[1] - self._kept
        if room > 0:
            self._features.append(seen.features[:room])
            self._labels.append(y[:room].cpu())
            self._kept += len(self._features[-1])

    @property
    def features(self) -> Tensor:
        """Those that are kept, float32 [N, F]."""
        self._features = [torch.cat(self._features)]
        return self._features[0]

    @property
    def labels(self) -> Tensor:
        """Labels of the kept features, [N] or [N, K]."""
        self._labels = [torch.cat(self._labels)]
        return self._labels[0]

    def part(self, which: Tensor) -> "Sketch":
        """The sketch of some of the kept features alone, by number, without a score."""
        part = Sketch()
        part.add(Seen(self.features[which], None), self.labels[which])
        return part

    def like(self, y: Tensor) -> "Sketch":
        """The sketch of kept features with the classes ``y``, as far as there are so many.

        With attributes, of as many as come; without a score. Otherwise chance in how often each
        class is drawn would pass for a difference.
        """
        if y.ndim == 2:
            return self.part(torch.arange(min(len(y), len(self.labels))))
        places = []
        for label, count in zip(*(u.tolist() for u in y.unique(return_counts=True)), strict=True):
            places.append((self.labels == label).nonzero().squeeze(1)[:count])
        return self.part(torch.cat(places))

    def state(self) -> dict[str, Any]:
        """Tensors and numbers alone."""
        return {
            "moments": self.moments.state(),
            "score": None if self.score is None else self.score.state(),
            "features": self.features,
            "labels": self.labels,
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Sketch":
        """The sketch of a :meth:`state`."""
        sketch = cls()
        sketch.moments = Moments.restored(state["moments"])
        if state["score"] is not None:
            sketch.score = ClassScore.restored(state["score"])
        sketch._features, sketch._labels = [state["features"]], [state["labels"]]
        sketch._kept = len(state["features"])
        return sketch
