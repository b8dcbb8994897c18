"""Where samplers take their randomness from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["AnyNoise", "BatchNoise", "GivenNoise", "SampleNoise"]


class AnyNoise(Protocol):
    """The contract of a source of noise: :meth:`randn`."""

    def randn(self, shape: torch.Size) -> Tensor:
        """Standard normal noise of ``shape`` [B, ...], a new draw at each call."""


class SampleNoise:
    """One random stream per sample: an image depends on its seed, not on its batch.

    Arguments:
        seeds: One seed for each sample of the batch.
        device: Where the noise is drawn.
    """

    def __init__(self, seeds: Iterable[int], *, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def randn(self, shape: torch.Size) -> Tensor:
        """Float32 noise; ``shape[0]`` must be the number of seeds."""
        if shape[0] != len(self.generators):
            raise ValueError(f"{len(self.generators)} seeds for a batch of {shape[0]}")
        draws = torch.empty(shape, device=self.device)
        for draw, generator in zip(draws, self.generators, strict=True):
            draw.normal_(generator=generator)
        return draws


@dataclass(frozen=True)
class BatchNoise:
    """One random stream for the whole batch: quicker, for experiments on many small samples.

    Arguments:
        generator: The stream.
        dtype: Precision of the noise.
    """

    generator: torch.Generator
    dtype: torch.dtype = torch.float32

    def randn(self, shape: torch.Size) -> Tensor:
        device = self.generator.device
        return torch.randn(shape, generator=self.generator, device=device, dtype=self.dtype)


class GivenNoise:
    """Draws given in advance, such as the noise that an image starts from.

    Arguments:
        draws: In the order in which they are used; none at all for a deterministic path.
        then: Where further draws come from, if any are needed.
    """

    def __init__(self, *draws: Tensor, then: AnyNoise | None = None) -> None:
        self.draws = list(draws)
        self.then = then

    def randn(self, shape: torch.Size) -> Tensor:
        """The next draw, which must be of ``shape``."""
        if self.draws:
            draw = self.draws.pop(0)
            if draw.shape != shape:
                raise ValueError(f"the given noise is {tuple(draw.shape)}, not {tuple(shape)}")
            return draw
        if self.then is None:
            raise ValueError("the sampler asks for more noise than was given: pass `then`")
        return self.then.randn(shape)
