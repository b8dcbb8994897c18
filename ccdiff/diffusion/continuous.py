"""Real numbers as labels: an angle, an age, a magnification.

Numbers are standardised by the training images, and each becomes one token: Fourier features
(Tancik et al., Fourier Features Let Networks Learn High Frequency Functions, 2020,
arXiv:2006.10739) through a layer of its own and one that all share. A number that is missing, or
hidden for guidance, becomes a learned null of its own.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ccdiff.diffusion.conditioning import Conditioning
from ccdiff.errors import UserError

__all__ = ["Continuous"]

# Periods of 32 standard deviations down to half of one.
_OCTAVES = 7
_LONGEST_PERIOD = 32.0
# Float32 must tell numbers apart that lie a thousandth of their spread from each other.
_FINEST = 1e-3


class Continuous(Conditioning):
    """One token per real number: ``y`` is float32 [B, K], NaN where a number is missing.

    Arguments:
        label_names: One name per number, unique.
        dim: D, the width of a token.
        drop: Probability of hiding all numbers of a sample in training, in [0, 1).
        number_drop: Probability of hiding each single number, independently, in [0, 1); a model
            trained so can be asked for some numbers and left free in the others.
    """

    scale: ClassVar[tuple[str, ...]] = ("mean", "std")

    mean: Tensor
    """Of the training images, [K]; of those of the first run, where one began with another's."""
    std: Tensor
    """As the mean, [K]."""
    low: Tensor
    """The smallest of the training images, [K]."""
    high: Tensor
    """The largest of the training images, [K]."""
    missing: Tensor
    """The share of the training images without the number, [K]."""

    def __init__(
        self,
        label_names: Sequence[str],
        *,
        dim: int,
        drop: float = 0.0,
        number_drop: float = 0.0,
    ) -> None:
        super().__init__(label_names, dim=dim, drop=drop)
        if not 0 <= number_drop < 1:
            raise UserError(f"conditioning.number_drop must be in [0, 1), got {number_drop}")
        self.number_drop = number_drop
        k, features = len(label_names), 1 + 2 * _OCTAVES
        self.features = nn.Parameter(torch.randn(k, features, dim) / math.sqrt(features))
        self.bias = nn.Parameter(torch.randn(k, dim))
        self.project = nn.Linear(dim, dim)
        # The mean square of silu of the numbers above is 1 / 1.7: tokens begin with variance one.
        nn.init.normal_(self.project.weight, std=math.sqrt(1.7 / dim))
        self.null = nn.Parameter(torch.randn(k, dim))
        # In every checkpoint, so that a model knows the numbers it was trained on.
        for name, value in (("mean", 0), ("std", 1), ("low", 0), ("high", 0), ("missing", 0)):
            self.register_buffer(name, torch.full((k,), float(value)))

    @property
    def num_tokens(self) -> int:
        return len(self.label_names)

    @property
    def may_be_missing(self) -> Tensor:
        """Which numbers the model has seen without their value, bool [K]."""
        alone = self.number_drop > 0 or (self.drop > 0 and len(self.label_names) == 1)
        return (self.missing > 0) | alone

    def example(self) -> Tensor:
        return self.mean.clone()[None]

    def check(self, labels: Tensor) -> None:
        if not labels.is_floating_point():
            kind = "one class" if labels.ndim == 1 else f"{labels.shape[1]} attributes"
            raise UserError(
                f"conditioning=continuous needs real numbers for each image, but the data has "
                f"{kind} per image: name the columns of numbers by data.numbers=[...], or use "
                f"conditioning={'onehot' if labels.ndim == 1 else 'multihot'}"
            )
        if labels.shape[1] != len(self.label_names):
            raise UserError(
                f"the data has {labels.shape[1]} numbers per image, but data.label_names names "
                f"{len(self.label_names)}"
            )
        if labels.isinf().any():
            raise UserError("labels must be finite numbers, or NaN where one is missing")

    def fit(self, labels: Tensor) -> None:
        """Takes mean, spread and range of each number from the training images.

        Arguments:
            labels: float32 [N, K].

        Raises:
            UserError: Where a number is the same for all of them, or too fine for float32.
        """
        self.check(labels)
        for k, name in enumerate(self.label_names):
            column = labels[:, k].double()
            there = column[~column.isnan()]
            if len(there) == 0 or there.min() == there.max():
                seen = f"is {there[0]:g} for" if len(there) else "is missing in"
                raise UserError(
                    f"the number {name} {seen} all training images, which teaches nothing: leave "
                    f"it out of data.numbers"
                )
            std = there.std(correction=0)
            if there.abs().max() * torch.finfo(torch.float32).eps > _FINEST * std:
                raise UserError(
                    f"the number {name} has mean {there.mean():.9g} and a spread of {std:.3g}, "
                    f"too fine for float32: subtract the mean in the table"
                )
            self.mean[k], self.std[k] = there.mean(), std
            self.low[k], self.high[k] = there.min(), there.max()
            self.missing[k] = 1 - len(there) / len(column)

    def draw_drop(self, n: int, generator: torch.Generator) -> Tensor:
        """As for :class:`Conditioning`; bool [n, K] where single numbers are hidden too."""
        whole = super().draw_drop(n, generator)
        if self.number_drop == 0:
            return whole
        shape = n, len(self.label_names)
        draws = torch.rand(shape, generator=generator, device=generator.device)
        return whole.unsqueeze(1) | (draws < self.number_drop)

    def forward(self, y: Tensor, drop: Tensor | None = None) -> Tensor:
        hidden = y.isnan()
        if drop is not None:
            hidden = hidden | (drop if drop.ndim == 2 else drop.unsqueeze(1))
        # What is hidden is replaced before it is computed with: NaN would spoil gradients.
        z = torch.where(hidden, 0.0, (y.float() - self.mean) / self.std).unsqueeze(-1)  # [B, K, 1]
        octaves = torch.arange(_OCTAVES, device=z.device)
        angles = z * (2 * math.pi / _LONGEST_PERIOD * 2.0**octaves)
        features = torch.cat([z, angles.sin(), angles.cos()], dim=-1)  # [B, K, F]
        inner = torch.einsum("bkf,kfd->bkd", features, self.features) + self.bias
        tokens = self.project(silu(inner))
        return torch.where(hidden.unsqueeze(-1), self.null.to(tokens.dtype), tokens)
