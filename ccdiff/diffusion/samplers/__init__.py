"""Samplers: from noise to images, one step at a time, over any :data:`Denoise`.

A sampler is a frozen record of its settings with one method, ``step``. The grid of times is data,
the loop is :func:`integrate`, and randomness comes from a :class:`AnyNoise`.
"""

from ccdiff.diffusion.samplers.ancestral import DDIM, DDPM
from ccdiff.diffusion.samplers.core import (
    Estimate,
    OnStep,
    Past,
    Sampler,
    check_sampler,
    integrate,
    sample,
)
from ccdiff.diffusion.samplers.fitted import FittedMultistep
from ccdiff.diffusion.samplers.learned import ConsistencySampler, MeanFlowSampler, ShortcutSampler
from ccdiff.diffusion.samplers.multistep import DPMpp2M, UniPC
from ccdiff.diffusion.samplers.noise import AnyNoise, BatchNoise, GivenNoise, SampleNoise
from ccdiff.diffusion.samplers.singlestep import Euler, Heun, StochasticHeun

__all__ = [
    "DDIM",
    "DDPM",
    "AnyNoise",
    "BatchNoise",
    "ConsistencySampler",
    "DPMpp2M",
    "Estimate",
    "Euler",
    "FittedMultistep",
    "GivenNoise",
    "Heun",
    "MeanFlowSampler",
    "OnStep",
    "Past",
    "SampleNoise",
    "Sampler",
    "ShortcutSampler",
    "StochasticHeun",
    "UniPC",
    "check_sampler",
    "integrate",
    "sample",
]
