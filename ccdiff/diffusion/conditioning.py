"""From labels to the tokens that the network attends to.

A label becomes a class-representation vector, one-hot for a class index or multi-hot for a row of
attributes, and that vector becomes tokens [B, L, D]; real numbers are in
:mod:`ccdiff.diffusion.continuous`. A hidden label is replaced by a *learned*
null: a zero vector would not do, since an all-zero row of attributes is a real label.

Labels are hidden per sample by an explicit mask, never by the training mode of the module, for
classifier-free guidance (Ho & Salimans, 2022, arXiv:2207.12598).
"""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from difflib import get_close_matches
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ccdiff.errors import UserError

__all__ = ["FEW_NAMES", "Conditioning", "MultiHot", "OneHot", "label_index"]

FEW_NAMES = 40
"""As many names as a message lists."""


class Conditioning(nn.Module, ABC):
    """The contract: check labels, draw drop masks, turn labels into tokens.

    Arguments:
        label_names: One name per class or attribute, unique.
        dim: D, the width of a token.
        drop: Probability of hiding a sample's whole label in training, in [0, 1).
    """

    scale: ClassVar[tuple[str, ...]] = ()
    """Buffers that say in which units labels meet the weights, one number per label each; whoever
    begins with the weights of another run begins with them, whatever :meth:`fit` finds."""

    def __init__(self, label_names: Sequence[str], *, dim: int, drop: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop < 1:
            raise UserError(f"conditioning.drop must be in [0, 1), got {drop}")
        if len(label_names) < 1 or len(set(label_names)) < len(label_names):
            raise UserError(f"label names must be unique and at least one, got {label_names}")
        self.label_names = tuple(label_names)
        self.dim = dim
        self.drop = drop

    @property
    @abstractmethod
    def num_tokens(self) -> int:
        """L, the number of tokens."""

    @abstractmethod
    def check(self, labels: Tensor) -> None:
        """Raises :class:`UserError`, with the fix, where ``labels`` are of the other kind."""

    def example(self) -> Tensor:
        """A label to try things with, [1] or [1, K]."""
        return torch.zeros(1, dtype=torch.int64)

    def fit(self, labels: Tensor) -> None:
        """Takes what it needs from the labels of the training images, before training."""

    @abstractmethod
    def forward(self, y: Tensor, drop: Tensor | None = None) -> Tensor:
        """Tokens [B, L, D] of labels ``y``, hidden where ``drop`` (bool) is true.

        ``drop`` is [B], or [B, K] to hide single attributes.
        """

    def draw_drop(self, n: int, generator: torch.Generator) -> Tensor:
        """A training-time drop mask, bool [n], each true with probability ``drop``."""
        return torch.rand(n, generator=generator, device=generator.device) < self.drop


class OneHot(Conditioning):
    """One token for one class: ``y`` is int64 [B] with values in [0, num_classes).

    Arguments: as for :class:`Conditioning`.
    """

    def __init__(self, label_names: Sequence[str], *, dim: int, drop: float = 0.0) -> None:
        super().__init__(label_names, dim=dim, drop=drop)
        # The last column is the learned null: one more class, meaning "not told".
        self.project = nn.Linear(len(label_names) + 1, dim, bias=False)
        nn.init.normal_(self.project.weight)

    @property
    def num_tokens(self) -> int:
        return 1

    def check(self, labels: Tensor) -> None:
        _refuse_numbers(labels, "conditioning=onehot needs one class index per image")
        if labels.ndim != 1:
            raise UserError(
                f"conditioning=onehot needs one class index per image, but the data has "
                f"{labels.shape[-1]} attributes per image: use conditioning=multihot"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.label_names):
            raise UserError(
                f"class indices span {low}..{high}, but data.label_names names "
                f"{len(self.label_names)} classes"
            )

    def vector(self, y: Tensor, drop: Tensor | None = None) -> Tensor:
        """The class-representation vector, [B, num_classes + 1]."""
        null = len(self.label_names)
        if drop is not None:
            y = y.masked_fill(drop, null)
        return one_hot(y, null + 1).to(self.project.weight.dtype)

    def forward(self, y: Tensor, drop: Tensor | None = None) -> Tensor:
        return self.project(self.vector(y, drop)).unsqueeze(1)  # [B, 1, D]


class MultiHot(Conditioning):
    """One token per attribute: ``y`` holds 0 (absent) or 1 (present), uint8 [B, K].

    Each attribute has three learned tokens: absent, present, and not told.

    Arguments:
        label_names: One name per attribute, unique.
        dim: D, the width of a token.
        drop: Probability of hiding all attributes of a sample in training, in [0, 1).
        attribute_drop: Probability of hiding each single attribute, independently, in [0, 1);
            a model trained so can be asked for some attributes and left free in the others.
    """

    def __init__(
        self,
        label_names: Sequence[str],
        *,
        dim: int,
        drop: float = 0.0,
        attribute_drop: float = 0.0,
    ) -> None:
        super().__init__(label_names, dim=dim, drop=drop)
        if not 0 <= attribute_drop < 1:
            raise UserError(f"conditioning.attribute_drop must be in [0, 1), got {attribute_drop}")
        self.attribute_drop = attribute_drop
        self.absent = nn.Parameter(torch.randn(len(label_names), dim))
        self.present = nn.Parameter(torch.randn(len(label_names), dim))
        self.null = nn.Parameter(torch.randn(len(label_names), dim))

    @property
    def num_tokens(self) -> int:
        return len(self.label_names)

    def example(self) -> Tensor:
        return torch.zeros(1, len(self.label_names), dtype=torch.uint8)

    def check(self, labels: Tensor) -> None:
        _refuse_numbers(labels, "conditioning=multihot needs a row of 0/1 attributes per image")
        if labels.ndim != 2:
            raise UserError(
                "conditioning=multihot needs a row of 0/1 attributes per image, but the data has "
                "one class index per image: use conditioning=onehot"
            )
        if labels.shape[1] != len(self.label_names):
            raise UserError(
                f"the data has {labels.shape[1]} attributes per image, but data.label_names names "
                f"{len(self.label_names)}"
            )
        if int(labels.min()) < 0 or int(labels.max()) > 1:
            raise UserError(
                f"attributes must be 0 or 1, but the data holds values from {int(labels.min())} "
                f"to {int(labels.max())}"
            )

    def draw_drop(self, n: int, generator: torch.Generator) -> Tensor:
        """As for :class:`Conditioning`; bool [n, K] where single attributes are hidden too."""
        whole = super().draw_drop(n, generator)
        if self.attribute_drop == 0:
            return whole
        shape = n, len(self.label_names)
        draws = torch.rand(shape, generator=generator, device=generator.device)
        return whole.unsqueeze(1) | (draws < self.attribute_drop)

    def forward(self, y: Tensor, drop: Tensor | None = None) -> Tensor:
        bits = y.to(self.absent.dtype).unsqueeze(-1)  # [B, K, 1]
        tokens = torch.lerp(self.absent.expand(y.shape[0], -1, -1), self.present, bits)
        if drop is None:
            return tokens
        hidden = drop if drop.ndim == 2 else drop.unsqueeze(1)  # [B, K] or [B, 1]
        return torch.where(hidden.unsqueeze(-1), self.null, tokens)


def _refuse_numbers(labels: Tensor, needed: str) -> None:
    if labels.is_floating_point():
        raise UserError(
            f"{needed}, but the data has {labels.shape[-1]} real numbers per image: use "
            f"conditioning=continuous, or leave out data.numbers"
        )


def label_index(name: str, names: Sequence[str]) -> int:
    """The place of ``name`` among ``names``.

    Raises:
        UserError: Where it is none of them, with near matches, and all names if they are few.
    """
    if name in names:
        return names.index(name)
    # The same letters may be written in two ways: é as one character, or as e and an accent.
    composed = [unicodedata.normalize("NFC", known) for known in names]
    if (text := unicodedata.normalize("NFC", name)) in composed:
        return composed.index(text)
    by_lower = {known.lower(): known for known in names}
    near = [by_lower[match] for match in get_close_matches(name.lower(), by_lower)]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    if len(names) <= FEW_NAMES or not near:
        more = ", ..." if len(names) > FEW_NAMES else ""
        hint += f" (there are {len(names)}: {', '.join(names[:FEW_NAMES])}{more})"
    raise UserError(f"no label is named {name!r}{hint}")
