"""Which noise an image is mixed with: any, or one that is near."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from ccdiff.diffusion.samplers.core import Sampler

__all__ = ["Coupling", "Independent", "Optimal", "alike"]


@dataclass(frozen=True, kw_only=True)
class Coupling(ABC):
    """The contract: an order of the noises of a batch, of which each is used once.

    So the noise as a whole stays normal, and a sampler may start from any.
    """

    looks: ClassVar[bool]
    """Whether the order depends on the images, so that all of a batch must be at hand."""

    def doubt(self, sampler: Sampler) -> str | None:
        """What speaks against drawing so from what was trained so, and what to do."""
        if not (self.looks and sampler.stochastic):
            return None
        return (
            f"coupling={type(self).__name__.lower()} teaches the velocity of an ODE, and "
            f"sampler={sampler.name} adds noise on its way, for which that is no guide: use a "
            f"sampler that adds none, such as heun or unipc"
        )

    @abstractmethod
    def __call__(self, x0: Tensor, y: Tensor, drop: Tensor | None, eps: Tensor) -> Tensor:
        """The noises in the order of the images that they go with.

        Arguments:
            x0: Clean images of the whole batch, [B, C, H, W].
            y: Their labels, [B] or [B, K].
            drop: Labels to hide, bool [B] or [B, K].
            eps: As many noises, [B, C, H, W].
        """


@dataclass(frozen=True, kw_only=True)
class Independent(Coupling):
    """Noise knows nothing of the image: Ho et al., 2020 (arXiv:2006.11239), algorithm 1."""

    looks: ClassVar[bool] = False

    def __call__(self, x0: Tensor, y: Tensor, drop: Tensor | None, eps: Tensor) -> Tensor:
        return eps


@dataclass(frozen=True, kw_only=True)
class Optimal(Coupling):
    """The order of least ``sum |x0 - eps|^2`` among images of one label, by exact assignment.

    Straighter paths from noise to image: Tong et al., Improving and Generalizing Flow-Based
    Generative Models with Minibatch Optimal Transport, 2023 (arXiv:2302.00482), section 3.3. Were
    noises exchanged between labels, those of a label would no longer be normal in training, but
    be so in sampling: Cheng & Schwing, The Curse of Conditions, 2025 (arXiv:2503.10636), section
    3, for discrete labels. Hidden labels are one label more. Rows of attributes exchange noises
    where they are equal in all that is told, so many attributes leave little to gain, and labels
    that are real numbers nothing.

    What is learned, ``E[x0 | x_t]`` under the coupling, gives the velocity of an ODE, but no
    score: samplers that add noise do not fit.

    Arguments:
        by_label: Whether labels keep their noises. Without, as in the first paper.
    """

    by_label: bool = True
    looks: ClassVar[bool] = True

    def __call__(self, x0: Tensor, y: Tensor, drop: Tensor | None, eps: Tensor) -> Tensor:
        from scipy.optimize import linear_sum_assignment

        # Squares of either sum to the same in any order; the device is waited for once.
        products = (x0.flatten(1).float() @ eps.flatten(1).float().T).cpu().double()
        taken = torch.arange(len(x0))
        for members in alike(y, drop) if self.by_label else [taken.clone()]:
            _, columns = linear_sum_assignment(
                products[members][:, members].numpy(), maximize=True
            )
            taken[members] = members[torch.from_numpy(columns)]
        return eps[taken.to(eps.device)]


def alike(y: Tensor, drop: Tensor | None) -> list[Tensor]:
    """The numbers of images that a network is told the same of, int64 each.

    Arguments:
        y: Labels, [B] or [B, K]; NaN is a number that is missing, which a network is told as one
            that is hidden.
        drop: Labels to hide, bool [B] or [B, K].
    """
    told = y.cpu().double()
    hidden = told.isnan()
    if drop is not None:
        hidden = hidden | (drop.cpu() if drop.ndim == told.ndim else drop.cpu()[:, None])
    told = told.masked_fill(hidden, -inf)
    _, kind = told.unique(dim=0, return_inverse=True)
    return [(kind == k).nonzero().squeeze(1) for k in range(int(kind.max()) + 1)]
