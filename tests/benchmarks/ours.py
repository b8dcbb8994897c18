"""What ``train.py`` runs, put together as it does, from a config and its settings alone."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast
from unittest.mock import patch

import torch
from hydra import compose, initialize
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ccdiff.config import schema
from ccdiff.config.build import instantiate
from ccdiff.data import Batches, DataSet, Split
from ccdiff.runs.folder import Run
from ccdiff.runs.log import RunLog
from ccdiff.runs.tracker import NoSession
from ccdiff.settings import TrainerSettings
from ccdiff.system.device import pick_device
from ccdiff.train.assembly import Training
from ccdiff.training.loop import train
from ccdiff.training.state import TrainState
from ccdiff.training.step import Update

NOISE = (
    "experiment=mnist",
    "data=digits",
    "data._target_=tests.benchmarks.ours.NoiseImages",
    "data.image_size=28",
)
"""``experiment=mnist`` for benchmarks to which pixels do not matter."""


class NoiseImages(DataSet):
    """Noise of the size that the config asks for, labels in turn; 256 images, 64 held out."""

    def read(self) -> tuple[Split, Split]:
        generator = torch.Generator().manual_seed(0)

        def split(n: int) -> Split:
            images = torch.randint(
                256, (n, *self.image_shape), dtype=torch.uint8, generator=generator
            )
            return Split(images, torch.arange(n) % len(self.label_names))

        return split(256), split(64)


def composed(*overrides: str) -> DictConfig:
    """The config of ``python train.py <overrides>``."""
    schema.register()
    with initialize(version_base="1.3", config_path="../../conf"):
        return schema.typed(compose("train", overrides=list(overrides)), schema.TrainConfig)


def assembled(*overrides: str, folder: Path = Path(), split: Split | None = None) -> Training:
    """What that command builds before its first step.

    Arguments:
        overrides: As on the command line.
        folder: Where the run goes; steps alone write nothing there.
        split: Images in place of those that the config names.
    """
    cfg = composed(*overrides)
    settings = cast(TrainerSettings, OmegaConf.to_object(cfg.trainer))
    device = pick_device(settings.device)
    # NoiseImages is none of the classes that a config may name without being trusted.
    trusted = patch.dict(os.environ, CCDIFF_ALLOW="tests")
    given = nullcontext()
    if split is not None:
        given = patch.object(DataSet, "load", lambda self: (split, split))
    with trusted, given:
        return Training(cfg, Run(folder), settings, checkpoint=None, device=device)


def batches_of(training: Training) -> Batches:
    """Its training images."""
    return Batches(
        training.train_split,
        batch_size=training.settings.batch_size,
        seed=training.cfg.seed,
        device=training.device,
        placement=training.data.placement,
        balance=training.data.balance,
    )


@dataclass(frozen=True)
class Never:
    """A hook that does nothing: neither checkpoints nor grids are timed."""

    every: int = 1 << 40
    name: str = "never"

    def __call__(self, state: TrainState) -> None:
        pass


def loop(training: Training, *, steps: int) -> Callable[[], None]:
    """Takes ``steps`` steps as ``train.py`` does between start and end, rows of metrics included.

    Each call goes on where the last one ended.
    """
    batches, run_log = batches_of(training), RunLog(training.run.metrics, NoSession())
    training.run.path.mkdir(parents=True, exist_ok=True)

    def run() -> None:
        until = replace(training.settings, steps=training.state.step + steps)
        update = updater(training, batches, settings=until)
        train(update, speed=training.speed, run_log=run_log, save=Never())

    return run


@dataclass(frozen=True)
class OneBatch:
    """The same batch whenever one is asked for."""

    images: Tensor
    labels: Tensor

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        return self.images, self.labels


def updater(
    training: Training, batches: Batches | OneBatch, *, settings: TrainerSettings | None = None
) -> Update:
    """One optimizer step, from the batch to the averaged weights."""
    training.state.denoiser.train()
    return Update(
        training.state,
        objective=training.objective,
        batches=batches,
        flip=training.data.flip,
        settings=settings or training.settings,
        seed=training.cfg.seed,
        timer=training.timer,
        coupling=instantiate(training.cfg.coupling),
    )


def bare_step(training: Training) -> Update:
    """One optimizer step, with EMA, on a batch that is on the device already."""
    return updater(training, OneBatch(*batches_of(training).batch(0)))
