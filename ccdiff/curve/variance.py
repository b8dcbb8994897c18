"""How much of a Gaussian's variance a sampler keeps: exact, and without a network.

Given the exact denoiser of ``x0 ~ N(0, std^2)``, every sampler here is linear in the noise that it
draws. So its output is ``sum_k a_k z_k`` of standard normal draws, and its variance
``sum_k a_k^2``, where ``a_k`` is what comes out if draw ``k`` is 1 and all others are 0.
"""

import torch
from torch import Tensor

from ccdiff.diffusion.oracle import GaussianOracle
from ccdiff.diffusion.samplers import Sampler, sample
from ccdiff.diffusion.schedules import Schedule

__all__ = ["variance_kept"]

# Of noise in a step, churned or split in two, and of what a run starts from.
_DRAWS_PER_STEP = 2


class _OneByOne:
    """Noise for as many samples as there are draws: in sample ``k``, draw ``k`` is 1, else 0."""

    def __init__(self) -> None:
        self.drawn = 0

    def randn(self, shape: torch.Size) -> Tensor:
        noise = torch.zeros(shape, dtype=torch.float64)
        noise[self.drawn] = 1.0
        self.drawn += 1
        return noise


def variance_kept(sampler: Sampler, schedule: Schedule, *, std: float) -> float:
    """The variance of what is sampled over that of the data, 1 for an exact sampler.

    Arguments:
        sampler: With its steps and grid; it must be linear, which all are without a threshold.
        schedule: To sample under.
        std: Standard deviation of the data, above 0.
    """
    oracle = GaussianOracle(mean=torch.tensor(0.0), std=torch.tensor(std, dtype=torch.float64))
    noise = _OneByOne()
    shape = (_DRAWS_PER_STEP * sampler.steps + 1, 1, 1, 1)
    x = sample(sampler, oracle, schedule, shape, noise)
    return float(x.square().sum()) / std**2
