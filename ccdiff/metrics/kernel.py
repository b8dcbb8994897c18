"""The kernel distance between two sets of features: the unbiased squared MMD of a cubic kernel.

``k(a, b) = (a . b / F + 1)^3`` for features of length ``F``: Bińkowski et al., Demystifying MMD
GANs, 2018 (arXiv:1801.01401), section 4, whose features are Inception's (KID). Unlike the Fréchet
distance it expects nothing of their shape, and its expectation does not depend on how many images
there are, so it may come out just below zero.
"""

import torch
from torch import Tensor

from ccdiff.seeding import generator_for

__all__ = ["kernel_distance"]


def kernel_distance(
    first: Tensor, second: Tensor, *, subset_size: int = 1000, subsets: int = 100
) -> float:
    """The mean over random subsets, as published; one estimate where there are no more images.

    Arguments:
        first: Features [N, F].
        second: Features [M, F].
        subset_size: Images of each set in a subset; no more than the smaller set has.
        subsets: How many subsets, drawn alike at every call.

    Raises:
        ValueError: Where either has fewer than two features, or they differ in length.
    """
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"features of length {first.shape[1]} and {second.shape[1]} do not compare"
        )
    if min(len(first), len(second)) < 2:
        raise ValueError(f"it needs at least 2 images of each, got {len(first)}, {len(second)}")
    if max(len(first), len(second)) <= subset_size:
        return _squared_mmd(first.double(), second.double())
    size = min(subset_size, len(first), len(second))
    generator = generator_for("kernel distance")
    total = 0.0
    for _ in range(subsets):
        parts = [
            features[torch.randperm(len(features), generator=generator)[:size]].double()
            for features in (first, second)
        ]
        total += _squared_mmd(*parts)
    return total / subsets


def _squared_mmd(x: Tensor, y: Tensor) -> float:
    """Gretton et al., A Kernel Two-Sample Test, 2012, eq. 3."""
    within = _off_diagonal_mean(_kernel(x, x)) + _off_diagonal_mean(_kernel(y, y))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _off_diagonal_mean(kernel: Tensor) -> Tensor:
    n = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))
