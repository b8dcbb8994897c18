"""What speaks against drawing from a trained model in a certain way, told before anything is."""

import logging

from omegaconf import DictConfig

from ccdiff.config.build import instantiate
from ccdiff.diffusion.couplings import Coupling
from ccdiff.diffusion.samplers import Sampler
from ccdiff.diffusion.schedules import Schedule

__all__ = ["coupling_of", "tell_doubts"]

log = logging.getLogger(__name__)


def coupling_of(config: DictConfig) -> Coupling:
    """That of the training whose whole config it is."""
    coupling: Coupling = instantiate(config.coupling)
    return coupling


def tell_doubts(sampler: Sampler, schedule: Schedule, coupling: Coupling) -> None:
    """Warns where a sampler's settings, or what the model has learned, speak against it."""
    for doubt in (sampler.doubt(schedule), coupling.doubt(sampler)):
        if doubt:
            log.warning("%s", doubt)
