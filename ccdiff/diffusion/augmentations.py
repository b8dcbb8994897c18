"""Images changed in training, by numbers that the network is told, so that samples are unchanged.

Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022
(arXiv:2206.00364), appendix F.2: what is told in training is zero in sampling, and so nothing of
the changes leaks into the samples.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import pi
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives.core import Draw, Objective, WrappedObjective

__all__ = ["Augmentation", "Flip", "Geometric", "NoAugmentation"]


@dataclass(frozen=True, kw_only=True)
class Augmentation(ABC):
    """The contract: :meth:`draw` numbers, and :meth:`apply` them; zeros change nothing."""

    told: ClassVar[int]
    """P, as many numbers as the network is told."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """The numbers for ``n`` images, float32 [n, P], on the device of ``generator``."""

    @abstractmethod
    def apply(self, x0: Tensor, numbers: Tensor) -> Tensor:
        """Images [B, C, H, W] changed by numbers [B, P]; where these are 0, not by a bit."""

    def added_to(self, objective: Objective) -> Objective:
        """The objective on changed images, for a denoiser that is told the numbers."""
        return _Augmented(
            weighting=objective.weighting,
            times=objective.times,
            objective=objective,
            augmentation=self,
        )


@dataclass(frozen=True, kw_only=True)
class NoAugmentation(Augmentation):
    """Images stay what they are; ``data.flip`` mirrors them all the same, and tells nobody."""

    told: ClassVar[int] = 0

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(n, 0, device=generator.device)

    def apply(self, x0: Tensor, numbers: Tensor) -> Tensor:
        return x0

    def added_to(self, objective: Objective) -> Objective:
        return objective


@dataclass(frozen=True, kw_only=True)
class Flip(Augmentation):
    """Mirrored left to right: one number, 1 or 0.

    For images that are not as good mirrored, such as text. Where they are, ``data.flip`` says so.

    Arguments:
        probability: Of an image to be mirrored, in [0, 1].
    """

    probability: float = 0.5
    told: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check_probability(self.probability)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        draws = torch.rand(n, 1, generator=generator, device=generator.device)
        return (draws < self.probability).float()

    def apply(self, x0: Tensor, numbers: Tensor) -> Tensor:
        return _mirrored(x0, numbers[:, 0], -1)


@dataclass(frozen=True, kw_only=True)
class Geometric(Augmentation):
    """Mirrored, scaled, turned, stretched and moved, each with the same probability.

    Nine numbers: whether mirrored left to right, and top to bottom; the log of the scale; cosine
    (less 1) and sine of the turn; strength of the stretch times cosine and sine of its direction;
    and the move, as fractions of the width and of the height. Pixels are interpolated linearly,
    and mirrored at the edges.

    Arguments:
        probability: Of each change, in [0, 1].
        scale: Standard deviation of the log of the scale to base 2, and of the stretch likewise.
        move: Standard deviation of the move, as a fraction of the side.
    """

    probability: float = 0.12
    scale: float = 0.2
    move: float = 0.125
    told: ClassVar[int] = 9

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        for name in ("scale", "move"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"augment.{name} must not be negative, got {value}")

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        chances = torch.rand(6, n, generator=generator, device=device)
        happens = (chances < self.probability).float()
        normal = torch.randn(4, n, generator=generator, device=device)
        turn, direction = pi * (2 * torch.rand(2, n, generator=generator, device=device) - 1)
        stretch = happens[4] * normal[1] * self.scale
        numbers = [
            happens[0],
            happens[1],
            happens[2] * normal[0] * self.scale,
            happens[3] * (turn.cos() - 1),
            happens[3] * turn.sin(),
            stretch * direction.cos(),
            stretch * direction.sin(),
            happens[5] * normal[2] * self.move,
            happens[5] * normal[3] * self.move,
        ]
        return torch.stack(numbers, dim=1)

    def apply(self, x0: Tensor, numbers: Tensor) -> Tensor:
        mirrored = _mirrored(_mirrored(x0, numbers[:, 0], -1), numbers[:, 1], -2)
        rest = numbers[:, 2:]
        height, width = x0.shape[-2:]
        grid = affine_grid(
            _back(rest, height / width).to(x0.dtype), list(x0.shape), align_corners=False
        )
        warped = grid_sample(mirrored, grid, padding_mode="reflection", align_corners=False)
        return torch.where(rest.any(1)[:, None, None, None], warped, mirrored)


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"augment.probability must be in [0, 1], got {probability}")


def _mirrored(x0: Tensor, whether: Tensor, dim: int) -> Tensor:
    return torch.where(whether.bool()[:, None, None, None], x0.flip(dim), x0)


def _back(numbers: Tensor, aspect: float) -> Tensor:
    """From places in the changed image to those in the image, [B, 2, 3] as torch wants it.

    Arguments:
        numbers: Scale, turn, stretch and move, [B, 7].
        aspect: Height over width.
    """
    log_scale, cos, sin, x, y, right, down = numbers.unbind(1)
    cos = cos + 1
    strength = torch.hypot(x, y)
    # exp of the symmetric matrix [[x, y], [y, -x]] ln 2, whose eigenvalues are +- the strength.
    grow = torch.exp2(strength)
    half_sum, half_difference = (grow + 1 / grow) / 2, (grow - 1 / grow) / 2
    ratio = half_difference / strength.clamp(min=1e-12)
    # The stretch and its inverse differ in the sign of the ratio, the turn in that of its sine.
    shrink = torch.exp2(-log_scale)
    a, b, c = half_sum - ratio * x, -ratio * y, half_sum + ratio * x
    inverse = [shrink * (cos * a + sin * b), shrink * (cos * b + sin * c)]
    inverse += [shrink * (cos * b - sin * a), shrink * (cos * c - sin * b)]
    # In units in which width and height are both 2, so that a turn is one in pixels.
    top = torch.stack([inverse[0], inverse[1] * aspect], dim=1)
    bottom = torch.stack([inverse[2] / aspect, inverse[3]], dim=1)
    whole = torch.stack([top, bottom], dim=1)
    return torch.cat([whole, -2 * whole @ torch.stack([right, down], dim=1)[:, :, None]], dim=2)


@dataclass(frozen=True, kw_only=True)
class _Augmented(WrappedObjective):
    """An objective on changed images."""

    augmentation: Augmentation

    def draw(
        self, denoiser: Denoiser, x0: Tensor, generator: torch.Generator, *, step: int = 0
    ) -> Draw:
        draw = super().draw(denoiser, x0, generator, step=step)
        return draw._replace(told=self.augmentation.draw(len(x0), generator))

    def at(self, denoiser: Denoiser, x0: Tensor, y: Tensor, draw: Draw) -> Tensor:
        if draw.told is None:
            return self.objective.at(denoiser, x0, y, draw)
        x0 = self.augmentation.apply(x0, draw.told)
        with denoiser.telling(draw.told):
            return self.objective.at(denoiser, x0, y, draw)
