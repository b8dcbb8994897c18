"""Training objectives: what a network learns from clean images, one loss per sample."""

from ccdiff.diffusion.objectives.consistency import Consistency
from ccdiff.diffusion.objectives.core import Draw, Objective
from ccdiff.diffusion.objectives.denoising import Denoising
from ccdiff.diffusion.objectives.meanflow import MeanFlow
from ccdiff.diffusion.objectives.model_guidance import ModelGuidance
from ccdiff.diffusion.objectives.shortcut import Shortcut

__all__ = [
    "Consistency",
    "Denoising",
    "Draw",
    "MeanFlow",
    "ModelGuidance",
    "Objective",
    "Shortcut",
]
