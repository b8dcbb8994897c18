"""A look at samples while training: do they show what was asked for, are they like images, and
are they new?
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.generation.pipeline import NotFinite, Pipeline
from ccdiff.metrics.copies import Copies, count_copies
from ccdiff.metrics.extractors import Material, Source
from ccdiff.metrics.goals import bounds
from ccdiff.metrics.intervals import Interval, bootstrap
from ccdiff.metrics.judge import Judge, Judged, Reading
from ccdiff.metrics.label_use import label_use
from ccdiff.metrics.neighbours import copying, nearest
from ccdiff.metrics.references import asked_labels, reference, shuffled
from ccdiff.metrics.sketch import Sketch
from ccdiff.runs.folder import Run
from ccdiff.runs.log import RunLog, read_metrics
from ccdiff.seeding import seed_for
from ccdiff.training.state import TrainState

__all__ = ["WatchQuality"]

log = logging.getLogger(__name__)

_HELDOUT_IMAGES = 256
# What a model learns by heart is few; of more images it would take long to find the nearest.
_MOST_TRAINING_IMAGES = 100_000


@dataclass(kw_only=True)
class WatchQuality:
    """Measures a few samples of the averaged model, and keeps the best checkpoint.

    ``evaluate/label_agreement_classifier``, the Fréchet distance to held-out images under the
    extractor's name, how sure it is that the label is used at all, and, with up to 100,000
    training images, whether samples are copies of these. Noise and labels are the same at each
    call and in every run, so figures of a run compare with each other.

    Arguments:
        every: Steps between measurements.
        images: Samples.
        pipeline: How to sample.
        material: The data.
        source: Gives features for the distance.
        save: Writes a checkpoint to a path.
        run: Whose best checkpoint it is.
        run_log: Where figures go.
        intervals: Figures whose 95 % intervals are logged too.
    """

    every: int
    images: int
    pipeline: Pipeline
    material: Material
    source: Source
    save: Callable[[TrainState, Path], None]
    run: Run
    run_log: RunLog
    intervals: frozenset[str] = frozenset()
    name: ClassVar[str] = "quality"

    def __post_init__(self) -> None:
        # Before training: it is opened after hundreds of steps.
        self.source.check()

    def __call__(self, state: TrainState) -> None:
        denoiser = state.averaged.eval()
        try:
            row = self._measure(denoiser) | self._label(denoiser)
        except NotFinite as error:
            log.warning("step %d: samples are not judged: %s", state.step, error)
            return
        best = self._best(before=state.step)
        self.run_log.metrics(row, step=state.step)
        if row[self._distance] < best:
            self.save(state, self.run.best_checkpoint)
        log.info(
            "step %d  %s, %s %.4g%s",
            state.step,
            self._agreement(row[f"evaluate/{self._judge.agreement_name}"]),
            self._judge.extractor.metric("fd"),
            row[self._distance],
            ", the best so far" if row[self._distance] < best else "",
        )

    @cached_property
    def _judge(self) -> Judge:
        """Opened at the first measurement: it may take training a classifier."""
        with torch.random.fork_rng(devices=[]):
            return Judge.open(self.source, self.material)

    @cached_property
    def _heldout(self) -> Sketch:
        material = self.material
        extractor = self._judge.extractor
        return reference(material.heldout, extractor, name="heldout", cache=material.cache)

    @cached_property
    def _train(self) -> Sketch:
        material = self.material
        extractor = self._judge.extractor
        return reference(material.train, extractor, name="train", cache=material.cache)

    @cached_property
    def _heldout_images(self) -> Tensor:
        """As many held-out images as there are samples, at most."""
        heldout = self.material.heldout
        return heldout.images[shuffled(len(heldout))[: self.images]]

    @property
    def _distance(self) -> str:
        return f"evaluate/{self._judge.distance_name}"

    def _agreement(self, value: float) -> str:
        if self._judge.classifier.classifier.numbers:
            return f"numbers {value:.3g} standard deviations off"
        return f"label agreement {100 * value:.1f} %"

    def _best(self, *, before: int) -> float:
        """The smallest distance at earlier steps, in whatever session of the run."""
        if not (self.run.best_checkpoint.exists() and self.run.metrics.exists()):
            return float("inf")
        rows = read_metrics(self.run.metrics)
        earlier = (row for row in rows if row["step"] < before)
        found = (row[self._distance] for row in earlier if self._distance in row)
        return min(found, default=float("inf"))

    def _measure(self, denoiser: Denoiser) -> dict[str, float]:
        material = self.material
        y = asked_labels(material.heldout, n=self.images, num_labels=material.num_labels)
        seeds = [seed_for("quality", i) for i in range(self.images)]
        images, _ = self.pipeline(denoiser, y, None, seeds=seeds)
        judged = self._judge.judged([(self._judge.look(images), y)])
        found = self._judge.in_short(judged, self._heldout)
        if 2 <= len(material.train) <= _MOST_TRAINING_IMAGES:
            found |= self._copying(images, judged.sketch.features)
        row = {f"evaluate/{name}": value for name, value in found.items()}
        for name, reading in self._readings(judged).items():
            row |= self._span(f"evaluate/{name}", reading.interval)
        return row

    def _readings(self, judged: Judged) -> dict[str, Reading]:
        """Figures with intervals, which are measured anew on halves; none where none is wanted."""
        keys = {f"evaluate/{self._judge.agreement_name}", self._distance}
        return self._judge.readings_of(judged, self._heldout) if self.intervals & keys else {}

    def _span(self, key: str, interval: Interval) -> dict[str, float]:
        """Both ends of an interval, where they are wanted."""
        return dict(zip(bounds(key), interval, strict=True)) if key in self.intervals else {}

    def _copying(self, images: Tensor, features: Tensor) -> dict[str, float]:
        """Whether samples are training images over again, by features and by pixels."""
        train = self._train.features
        near = nearest(features, train).distance
        of_heldout = nearest(self._heldout.features[: self.images], train).distance
        copies = count_copies(images, self._heldout_images, self.material.train.images)
        if copies.unexplained:
            log.warning("%s", _told(copies, len(self.material.train)))
        return {
            self._judge.extractor.metric("copying"): copying(near, of_heldout),
            "copies": copies.share,
            "copies_heldout": copies.share_heldout,
        }

    def _label(self, denoiser: Denoiser) -> dict[str, float]:
        use = label_use(
            denoiser,
            self.material.heldout.take(_HELDOUT_IMAGES),
            batch_size=self.pipeline.batch_size,
        )
        if use.blind:
            log.warning("%s", use.warning)
        key = f"evaluate/label_gain_{use.against}"
        return {
            key: use.gain.mean().item(),
            "evaluate/label_certainty": use.certainty,
            **(self._span(key, bootstrap(use.gain)) if key in self.intervals else {}),
        }


def _told(copies: Copies, n: int) -> str:
    return (
        f"{copies.samples} of {copies.of_samples} samples are copies of one of the {n} training "
        f"images, by the pixels, where {copies.heldout} of {copies.of_heldout} held-out images "
        f"come as near: the model has learned them by heart; train for fewer steps, on more "
        f"images, or with augment=geometric"
    )
