r"""How sure a classifier is of each image and how varied it finds them, as one number.

``exp E_x KL(p(y|x) | p(y))``: Salimans et al., Improved Techniques for Training GANs, 2016
(arXiv:1606.03498), section 4, whose classifier is Inception. It is between 1 and the number of
classes, which it reaches where images are told apart with certainty and classes are equally
frequent. It looks at samples alone: a model that draws one perfect image per class is given all.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["ClassScore"]


class ClassScore:
    """The score of logits that come in batches, in constant memory.

    Unlike the published figure it is not averaged over ten parts of the images.
    """

    def __init__(self) -> None:
        self.n = 0
        self._marginal = torch.zeros(0)
        self._negative_entropy = 0.0

    def add(self, logits: Tensor) -> None:
        """Takes in a batch [B, K]; an empty one changes nothing."""
        if len(logits) == 0:
            return
        log_p = logits.double().log_softmax(1)
        if self.n == 0:
            self._marginal = torch.zeros_like(log_p[0])
        self._marginal += log_p.exp().sum(0)
        self._negative_entropy += float((log_p.exp() * log_p).sum())
        self.n += len(logits)

    def state(self) -> dict[str, Any]:
        """Tensors and numbers alone."""
        return {"n": self.n, "marginal": self._marginal, "negative": self._negative_entropy}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "ClassScore":
        """The score of a :meth:`state`."""
        score = cls()
        score.n, score._marginal = state["n"], state["marginal"]
        score._negative_entropy = state["negative"]
        return score

    @property
    def value(self) -> float:
        """At least 1.

        Raises:
            ValueError: Where there is nothing to score.
        """
        if self.n == 0:
            raise ValueError("a score needs at least 1 image")
        marginal = self._marginal / self.n
        entropy = -torch.xlogy(marginal, marginal).sum()
        return float((self._negative_entropy / self.n + entropy).exp())
