"""The labels that a curve and a map are drawn for, and what judges the images."""

from collections.abc import Mapping
from dataclasses import dataclass

from omegaconf import DictConfig
from torch import Tensor

from ccdiff.curve.choices import labels_shown
from ccdiff.data import Split
from ccdiff.metrics.extractors import Material, Source
from ccdiff.metrics.judge import Judge, images_like
from ccdiff.metrics.references import reference
from ccdiff.metrics.sketch import Sketch
from ccdiff.trained.run import OpenedRun

__all__ = ["Judged", "open_judged"]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is drawn, and what it is judged by.

    Arguments:
        train: The training images.
        y: Labels to draw, [N] or [N, K].
        titles: One for each.
        judge: Of the images.
        against: Features of the held-out images.
        real: Figures of training images with these labels, by name.
    """

    train: Split
    y: Tensor
    titles: list[str]
    judge: Judge
    against: Sketch
    real: Mapping[str, float]


def open_judged(cfg: DictConfig, trained: OpenedRun, source: Source) -> Judged:
    """Reads the data set of a run, and makes or finds its judge.

    Arguments:
        cfg: With ``data.root``, ``num_per_label`` and ``cache``.
        trained: The run.
        source: Of the features.

    Raises:
        UserError: Where the data are not there.
    """
    data = trained.data_set(root=cfg.data.root)
    train, heldout = data.load()
    y, titles = labels_shown(heldout, len(data.names), cfg.num_per_label)
    material = Material.of(data, train, heldout, cache=cfg.cache, device=trained.device)
    judge = Judge.open(source, material)
    against = reference(heldout, judge.extractor, name="heldout", cache=material.cache)
    like = images_like(train, y)
    real = judge.glance(like.images, like.labels.cpu(), against)
    return Judged(train=train, y=y, titles=titles, judge=judge, against=against, real=real)
