"""The Fréchet distance between two sets of features, each seen as a Gaussian.

``|m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))``: Dowson & Landau, The Fréchet Distance
between Multivariate Normal Distributions, 1982; for images, Heusel et al., GANs Trained by a Two
Time-Scale Update Rule Converge to a Local Nash Equilibrium, 2017 (arXiv:1706.08500), eq. 6.

The figure depends on the features and on how many images there are, so it is named after its
features (``fd_classifier``), and only figures of equally many images compare.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["Moments", "frechet_distance"]


class Moments:
    """Mean and covariance of features that come in batches, in float64 and constant memory.

    Chan, Golub & LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances, 1979, eq. 2.1.

    Arguments:
        features: The first batch, if there is one already, [B, F].
    """

    def __init__(self, features: Tensor | None = None) -> None:
        self.n = 0
        self._mean = torch.zeros(0)
        self._scatter = torch.zeros(0, 0)
        if features is not None:
            self.add(features)

    def add(self, features: Tensor) -> None:
        """Takes in a batch [B, F]; an empty one changes nothing."""
        count = len(features)
        if count == 0:
            return
        features = features.double()
        mean = features.mean(0)
        centred = features - mean
        if self.n == 0:
            self._mean = torch.zeros_like(mean)
            self._scatter = torch.zeros_like(torch.outer(mean, mean))
        total = self.n + count
        shift = mean - self._mean
        self._scatter += centred.T @ centred + torch.outer(shift, shift) * (self.n * count / total)
        self._mean += shift * (count / total)
        self.n = total

    def state(self) -> dict[str, Any]:
        """Tensors and numbers alone."""
        return {"n": self.n, "mean": self._mean, "scatter": self._scatter}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Moments":
        """The moments of a :meth:`state`."""
        moments = cls()
        moments.n, moments._mean, moments._scatter = state["n"], state["mean"], state["scatter"]
        return moments

    @property
    def mean(self) -> Tensor:
        """Float64 [F]."""
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """Float64 [F, F], with the divisor ``n - 1``.

        Raises:
            ValueError: Where there are fewer than two features.
        """
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {self.n}")
        return self._scatter / (self.n - 1)


def frechet_distance(first: Moments, second: Moments) -> float:
    """The distance, at least 0, in squared units of the features.

    The trace of ``(S_1 S_2)^(1/2)`` is the sum of the singular values of ``S_1^(1/2) S_2^(1/2)``,
    which stays exact where fewer images than features leave the covariances without full rank.

    Raises:
        ValueError: Where the features are of different length.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            f"features of length {len(first.mean)} and {len(second.mean)} do not compare"
        )
    gap = (first.mean - second.mean).square().sum()
    ours, theirs = first.covariance, second.covariance
    together = torch.linalg.svdvals(_root(ours) @ _root(theirs)).sum()
    return max(0.0, float(gap + ours.trace() + theirs.trace() - 2 * together))


def _root(covariance: Tensor) -> Tensor:
    """The positive semi-definite square root; rounding may leave eigenvalues just below zero."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T
