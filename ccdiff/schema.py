"""The typed part of the configs, so that a wrong type or a misspelt key is refused by name.

Groups are ``_target_`` YAML and typed by the constructors they call.
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from ccdiff.training.settings import Precision, TrainerSettings

__all__ = ["SampleConfig", "TrainConfig", "register"]


@dataclass
class TrainConfig:
    """What ``train.py`` takes; one entry per group, then the plain keys."""

    data: Any = MISSING
    model: Any = MISSING
    conditioning: Any = MISSING
    schedule: Any = MISSING
    prediction: Any = MISSING
    weighting: Any = MISSING
    times: Any = MISSING
    optimizer: Any = MISSING
    ema: Any = MISSING
    trainer: TrainerSettings = MISSING
    sampler: Any = MISSING
    threshold: Any = MISSING
    guidance: Any = MISSING
    tracker: Any = MISSING
    experiment: Any = None
    seed: int = 0
    resume: str | None = None
    """A run directory or checkpoint to go on from, in the same directory."""


@dataclass
class SampleConfig:
    """What ``sample.py`` takes."""

    sampler: Any = MISSING
    threshold: Any = MISSING
    guidance: Any = MISSING
    run: str | None = None
    """A run directory, a checkpoint file, or ``latest``."""
    labels: Any = None
    """Names or indices; none is one row per class."""
    num_per_label: int = 8
    seed: int = 0
    out: str | None = None
    """Folder to write to; none is a new one in the run."""
    weights: str = "ema"
    """``ema`` or ``raw``."""
    batch_size: int = 256
    device: str = "auto"
    precision: Precision = Precision.auto


def register() -> None:
    """Makes the schemas known to Hydra; call before ``hydra.main`` composes."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="sample_schema", node=SampleConfig)
    store.store(group="trainer", name="schema", node=TrainerSettings)
