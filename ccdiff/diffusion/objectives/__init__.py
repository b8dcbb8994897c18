"""Training objectives: what a network learns from clean images, one loss per sample."""

from ccdiff.diffusion.objectives.core import Draw, Objective
from ccdiff.diffusion.objectives.denoising import Denoising

__all__ = ["Denoising", "Draw", "Objective"]
