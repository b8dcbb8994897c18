"""Points of the plane with a known density: what can be learned of them is known exactly.

Each set is a mixture of equal round Gaussians about centres, so that the mean ``E[x0 | x_t, y]``,
the density of every point and the probability of each of its labels are finite sums.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from math import pi

import torch
from torch import Tensor

from ccdiff.data.core import DataSet, Split
from ccdiff.diffusion.oracle import LabelledOracle
from ccdiff.errors import UserError
from ccdiff.seeding import generator_for

__all__ = ["Gaussians", "Moons", "PointSet", "Rings"]

_ALONG = 256
"""Centres along a curve: a fraction of ``std`` apart, so that the curve is smooth."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PointSet(DataSet):
    """Points about the :attr:`centres` of their class; a tenth as many more are held out.

    Arguments:
        n: Training points; each class has as many.
        std: Standard deviation about the centres, in each coordinate.
        seed: Of the points. The same set at each start, whatever the seed of the run.
    """

    n: int = 20_000
    std: float = 0.08
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_shape != (2, 1, 1):
            raise UserError(
                f"points have two coordinates: data.channels=2 data.image_size=1, got "
                f"{self.channels} and {self.image_size}"
            )
        if self.flip:
            raise UserError("data.flip mirrors images, and these are points: data.flip=false")
        if self.std <= 0:
            raise UserError(f"data.std must be positive, got {self.std}")
        if len(self.names) != len(self.centres):
            raise UserError(
                f"data.label_names must name {len(self.centres)} classes, or be null, got "
                f"{list(self.names)}"
            )
        if self.n < 10 * len(self.names):
            raise UserError(f"data.n must be at least 10 for each class, got {self.n}")

    @property
    @abstractmethod
    def centres(self) -> Tensor:
        """Those of each class, as many for each: float32 [K, M, 2]."""

    @property
    def names(self) -> tuple[str, ...]:
        """``0``, ``1``, ... where the config does not say them."""
        return super().names or tuple(str(k) for k in range(len(self.centres)))

    @cached_property
    def exact(self) -> LabelledOracle:
        """The exact denoiser of the density that the points are drawn from."""
        classes, each, _ = self.centres.shape
        return LabelledOracle(
            points=self.centres.reshape(-1, 2, 1, 1),
            labels=torch.arange(classes).repeat_interleave(each),
            std=self.std,
        )

    def read(self) -> tuple[Split, Split]:
        return self._drawn(self.n, "training points"), self._drawn(self.n // 10, "held-out points")

    def _drawn(self, n: int, name: str) -> Split:
        generator = generator_for(self.seed, name)
        classes, each, _ = self.centres.shape
        labels = torch.arange(n) % classes
        which = torch.randint(each, (n,), generator=generator)
        moved = self.std * torch.randn(n, 2, generator=generator)
        points = self.centres[labels, which] + moved
        return Split(points.reshape(n, 2, 1, 1), labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussians(PointSet):
    """Round Gaussians whose centres lie on a circle, each a class.

    Arguments:
        components: How many.
        radius: Of the circle.
    """

    components: int = 8
    radius: float = 0.6

    def __post_init__(self) -> None:
        if self.components < 1:
            raise UserError(f"data.components must be at least 1, got {self.components}")
        super().__post_init__()

    @cached_property
    def centres(self) -> Tensor:
        angles = 2 * pi * torch.arange(self.components) / self.components
        return (self.radius * _on_circle(angles)).unsqueeze(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rings(PointSet):
    """Rings about the origin, each a class, that are as wide as ``std``.

    Arguments:
        radii: One for each ring.
    """

    radii: tuple[float, ...] = (0.25, 0.5, 0.75)
    std: float = 0.04

    def __post_init__(self) -> None:
        if not self.radii or min(self.radii) < 0:
            raise UserError(f"data.radii must name radii of at least 0, got {list(self.radii)}")
        super().__post_init__()

    @cached_property
    def centres(self) -> Tensor:
        circle = _on_circle(2 * pi * torch.arange(_ALONG) / _ALONG)
        return torch.tensor(self.radii)[:, None, None] * circle


@dataclass(frozen=True, kw_only=True, eq=False)
class Moons(PointSet):
    """Two half circles that reach into each other, each a class."""

    std: float = 0.05

    @cached_property
    def centres(self) -> Tensor:
        upper = _on_circle(pi * (torch.arange(_ALONG) + 0.5) / _ALONG)
        both = torch.stack([upper, torch.tensor([1.0, 0.5]) - upper])
        return (both - torch.tensor([0.5, 0.25])) / 2


def _on_circle(angles: Tensor) -> Tensor:
    """Points [N, 2] of the unit circle."""
    return torch.stack([angles.cos(), angles.sin()], dim=-1)
