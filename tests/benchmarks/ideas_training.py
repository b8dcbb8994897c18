"""One training for so many CPU seconds, and what its samples are worth."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import scipy.optimize  # noqa: F401 - the coupling's, so that no training's clock counts it
import torch
from torch import Tensor

from ccdiff.config.build import instantiate
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.guidance import CFG, Guidance, NoGuidance
from ccdiff.generation.pipeline import Pipeline
from ccdiff.metrics.label_use import BIN_EDGES
from ccdiff.metrics.references import asked_labels
from ccdiff.pictures import grid, save_png
from ccdiff.train.assembly import Training
from ccdiff.training.monitor.hooks import noise_level_errors
from tests.benchmarks.ideas_data import Judged, open_judged
from tests.benchmarks.kit import count
from tests.benchmarks.ours import assembled, batches_of, updater

__all__ = ["ROWS", "Task", "figures_of", "judged_samples", "run", "train_for"]

_SLOW = 3
"""Steps at the start that say nothing of the rate."""
_COLUMNS = 10
ROWS = 4
"""Of a picture."""
_BATCH = 128
_NOISY = BIN_EDGES.index(3)
"""Bins up to a log-SNR of 3: beyond, noise is small beside what a clean estimate gets wrong."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training.

    Arguments:
        data: What the data set is called.
        idea: What is changed.
        seed: Of all randomness.
        overrides: All of them, but for the seed.
        seconds: CPU seconds of training.
        cooldown: Share of training in which the learning rate falls to zero.
        images: How many are judged.
        heldout_images: On how many the held-out error is taken.
        scale: Of guidance, where there is any.
        cache: Where the judge is kept.
        picture: Where a grid goes; None for none.
    """

    data: str
    idea: str
    seed: int
    overrides: tuple[str, ...]
    seconds: float
    cooldown: float
    images: int
    heldout_images: int
    scale: float
    cache: Path
    picture: Path | None = None


def run(task: Task) -> dict[str, Any]:
    """Trains and judges, on one thread; returns figures by name."""
    torch.set_num_threads(1)
    began = time.process_time()
    judged = open_judged(task.overrides, cache=task.cache)
    # Its heldout images are those of the judge, so one reading of the files is enough.
    training = assembled(*task.overrides, f"seed={task.seed}", split=judged.train)
    ready = time.process_time()
    spent = train_for(training, task.seconds, cooldown=task.cooldown)
    trained = time.process_time()
    found = figures_of(training, judged, task)
    steps, size = training.state.step, training.settings.batch_size
    return {
        "steps": steps,
        "images": steps * size,
        "images_per_second": steps * size / spent,
        "training_seconds": spent,
        "parameters": count(training.state.denoiser),
        "precision": training.precision,
        **found,
        "start_seconds": ready - began,
        "judging_seconds": time.process_time() - trained,
    }


def train_for(training: Training, seconds: float, *, cooldown: float) -> float:
    """Takes steps for so many CPU seconds; the learning rate's fall follows the clock.

    Where the training ends is reckoned anew at each step, by the mean step so far, so that
    every idea has its whole schedule in the time it is given.

    Arguments:
        training: What is trained.
        seconds: CPU seconds of this process; at least one step is taken.
        cooldown: Share of all steps over which the learning rate falls to zero.

    Returns:
        The CPU seconds that it took.
    """
    update = updater(training, batches_of(training))
    began, early = time.process_time(), 0.0
    spent, done = 0.0, 0
    while spent < seconds:
        if done > _SLOW:
            each = (spent - early) / (done - _SLOW)
            steps = max(done + 1, done + round((seconds - spent) / each))
            update.settings = replace(
                update.settings, steps=steps, cooldown=round(cooldown * steps)
            )
        else:
            early = spent
        update()
        done += 1
        spent = time.process_time() - began
    update.settle()
    return spent


def figures_of(training: Training, judged: Judged, task: Task) -> dict[str, float]:
    """The held-out error of the averaged model; its samples judged, without guidance and with."""
    denoiser = training.state.averaged.eval()
    heldout = judged.heldout.take(task.heldout_images)
    errors = noise_level_errors(denoiser, heldout, batch_size=_BATCH)
    found = {
        "heldout_error": errors.mean().item(),
        "heldout_error_noisy": errors[:_NOISY].mean().item(),
    }
    guidances: dict[str, Guidance] = {"": NoGuidance()}
    if training.cfg.conditioning.drop > 0:
        guidances["guided_"] = CFG(scale=task.scale)
    y = asked_labels(judged.heldout, n=task.images, num_labels=judged.num_labels)
    for name, guidance in guidances.items():
        images = _draw(training, denoiser, guidance, y)
        found |= {
            f"{name}{key}": value for key, value in judged_samples(images, y, judged).items()
        }
        if task.picture is not None:
            few = images[: _COLUMNS * ROWS]
            path = task.picture.with_name(f"{task.picture.name}-{name}drawn.png")
            save_png(grid(few, columns=_COLUMNS), path)
    return found


def judged_samples(images: Tensor, y: Tensor, judged: Judged) -> dict[str, float]:
    """``agreement`` and ``fd`` (of the classifier's features to held-out images)."""
    found = judged.judge.glance(images, y, judged.against)
    return {
        "agreement": found[judged.judge.agreement_name],
        "fd": found[judged.judge.distance_name],
    }


def _draw(training: Training, denoiser: Denoiser, guidance: Guidance, y: Tensor) -> Tensor:
    pipeline = Pipeline(
        sampler=instantiate(training.cfg.sampler),
        guidance=guidance,
        threshold=instantiate(training.cfg.threshold),
        image_shape=training.data.image_shape,
        batch_size=_BATCH,
    )
    return pipeline(denoiser, y, None, seeds=range(len(y)))[0]
