"""What a run does between steps: measure, and draw a showcase of its labels."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from ccdiff.data import Split
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.oracle import LabelledOracle
from ccdiff.generation.film import FILM_COLUMNS, Frames, film
from ccdiff.generation.labels import frequent_rows, label_title
from ccdiff.generation.pipeline import NotFinite, Pipeline, sample_seeds
from ccdiff.metrics.goals import bounds
from ccdiff.metrics.intervals import of_variance
from ccdiff.metrics.label_use import BIN_EDGES, by_level, eps_errors
from ccdiff.pictures import columns_shown, grid, places_shown, save_png
from ccdiff.runs.folder import Run
from ccdiff.runs.log import RunLog
from ccdiff.training.state import TrainState

__all__ = [
    "FIXED_SEEDS",
    "DrawGrids",
    "HeldOutLoss",
    "Showcase",
    "noise_level_errors",
    "showcase",
]

log = logging.getLogger(__name__)

_FRAMES = 40
# Between two disjoint sets of 512 images of one kind the gap is a few per cent by chance, and of
# fewer it is more: a gap is told that is large, and larger than three of its standard errors.
_OVERFIT_GAP = 0.2
_SURE = 3.0
# Noise levels at which the error is taken: an image of a small split stands for several.
_FEWEST_LEVELS = 64
_MAX_ROWS = 12
_SEED = 0
FIXED_SEEDS = {"grids": _SEED}
"""Those that no setting changes; held-out noise is keyed by name alone."""


def noise_level_errors(
    denoiser: Denoiser, split: Split, *, batch_size: int, exact: LabelledOracle | None = None
) -> Tensor:
    """Mean squared error on ``eps`` in bins of log-SNR, averaged over ``split``.

    Arguments:
        denoiser: In evaluation mode.
        split: Held-out images.
        batch_size: Images at a time.
        exact: Whose estimates are compared with, in place of the images.

    Returns:
        Errors [8], from noisy (-12..-9) to clean (9..12), in units of the noise variance.
    """
    return _level_errors(denoiser, split, batch_size=batch_size, exact=exact)[0]


def _level_errors(
    denoiser: Denoiser, split: Split, *, batch_size: int, exact: LabelledOracle | None = None
) -> tuple[Tensor, float]:
    """The same errors, and the variance of their mean for want of images."""
    times = -(-_FEWEST_LEVELS // len(split))
    images, labels = (u.repeat(times, *[1] * (u.ndim - 1)) for u in (split.images, split.labels))
    repeated = Split(images, labels)
    errors = eps_errors(denoiser, repeated, batch_size=batch_size, exact=exact).double()
    mean = by_level(errors)
    spread = (by_level(errors.square()) - mean.square()).clamp(min=0)
    # An image that stands for several tells no more than once.
    return mean, spread.sum().item() / (len(mean) * len(split))


@dataclass(frozen=True, kw_only=True)
class HeldOutLoss:
    """Logs the averaged model's error on held-out images, overall and per noise level.

    Also by how much it exceeds the error on as many training images, as a share of that: a model
    that learns its images by heart shows in this gap, which is near 0 before.

    Arguments:
        every: Steps between measurements.
        split: The held-out images.
        trained: As many of the training images.
        batch_size: Images at a time.
        run_log: Where to.
        exact: The exact denoiser of the data, where it is known: how far the model is from it is
            logged too.
        interval: Whether to log the 95 % interval of the error, for want of images.
    """

    every: int
    split: Split
    trained: Split
    batch_size: int
    run_log: RunLog
    exact: LabelledOracle | None = None
    interval: bool = False
    name: ClassVar[str] = "held-out loss"

    def __call__(self, state: TrainState) -> None:
        (errors, of_heldout), (trained, of_trained) = (
            _level_errors(state.averaged.eval(), split, batch_size=self.batch_size)
            for split in (self.split, self.trained)
        )
        ours, theirs = errors.mean().item(), trained.mean().item()
        row = {"heldout/eps_mse": ours, "heldout/gap": ours / theirs - 1}
        chance = (of_heldout + (ours / theirs) ** 2 * of_trained) ** 0.5 / theirs
        if row["heldout/gap"] > max(_OVERFIT_GAP, _SURE * chance):
            log.warning(
                "step %d: the error on held-out images is %.0f %% above that on training images: "
                "the model is overfitting",
                state.step,
                100 * row["heldout/gap"],
            )
        if self.exact is not None:
            excess = noise_level_errors(
                state.averaged, self.split, batch_size=self.batch_size, exact=self.exact
            )
            row["heldout/excess_eps_mse"] = excess.mean().item()
        if self.interval:
            interval = of_variance(ours, of_heldout)
            row |= zip(bounds("heldout/eps_mse"), interval, strict=True)
        for low, high, error in zip(BIN_EDGES, BIN_EDGES[1:], errors.tolist(), strict=False):
            row[f"heldout/eps_mse_log_snr_{low}_to_{high}"] = error
        self.run_log.metrics(row, step=state.step)


@dataclass(frozen=True)
class Showcase:
    """The labels and seeds of a run's grids: rows are labels, columns are fixed noises.

    Arguments:
        y: One label per row, [R] or [R, K].
        titles: One per row.
        columns: Images per row.
    """

    y: Tensor
    titles: Sequence[str]
    columns: int

    @property
    def labels(self) -> Tensor:
        """One label per image."""
        return self.y.repeat_interleave(self.columns, dim=0)

    @property
    def seeds(self) -> list[int]:
        """One per image; the same in runs of whatever seed, so that pictures of a sweep align."""
        return sample_seeds(_SEED, self.titles, self.columns)


def showcase(label_names: Sequence[str], labels: Tensor, *, columns: int) -> Showcase:
    """The classes in order, the most frequent rows of attributes, or numbers over their range.

    At most twelve.

    Arguments:
        label_names: One per class, attribute or number.
        labels: Of the training images, [N] or [N, K].
        columns: Images per row.
    """
    if labels.ndim == 1:
        y = torch.arange(min(len(label_names), _MAX_ROWS))
    elif labels.is_floating_point():
        y = _numbers_shown(labels.cpu())
    else:
        y = frequent_rows(labels.cpu())[:_MAX_ROWS]
    return Showcase(y, [label_title(row, label_names) for row in y], columns)


def _numbers_shown(labels: Tensor) -> Tensor:
    """Each number in turn over its range, while the others are at their medians: [R, K]."""
    k = labels.shape[1]
    each = max(2, _MAX_ROWS // k)
    middle = labels.nanmedian(0).values
    # Between quantiles, as the ends of the range may be far out.
    ends = labels.double().nanquantile(torch.tensor([0.02, 0.98], dtype=torch.float64), dim=0)
    shares = torch.linspace(0, 1, each, dtype=torch.float64)
    rows = middle.repeat(min(k, _MAX_ROWS // each), each, 1)
    for i, block in enumerate(rows):
        block[:, i] = torch.lerp(ends[0, i], ends[1, i], shares).float()
    return rows.flatten(0, 1)


@dataclass(frozen=True, kw_only=True)
class DrawGrids:
    """Draws the showcase with the raw and the averaged weights; at the end also as a film.

    Arguments:
        every: Steps between drawings.
        last_step: The step whose drawing is the final one.
        pipeline: How to sample.
        showcase: What to sample.
        run: Where to.
        run_log: Where pictures go, too.
    """

    every: int
    last_step: int
    pipeline: Pipeline
    showcase: Showcase
    run: Run
    run_log: RunLog
    name: ClassVar[str] = "grids"

    def __call__(self, state: TrainState) -> None:
        for name, denoiser in (("raw", state.denoiser), ("ema", state.averaged)):
            filmed = name == "ema" and (state.step == self.last_step or state.ended)
            try:
                images, frames = self.pipeline(
                    denoiser.eval(),
                    self.showcase.labels,
                    None,
                    seeds=self.showcase.seeds,
                    num_frames=_FRAMES if filmed else 0,
                )
            except NotFinite as error:
                # A picture less is no reason to end a training.
                log.warning("step %d, %s weights: no grid: %s", state.step, name, error)
                continue
            self._keep(images, f"{name}_{state.step:08d}", key=f"samples/{name}", step=state.step)
            if filmed:
                self._finish(images, frames, step=state.step)

    def _grid(self, images: Tensor) -> Image.Image:
        return grid(images, columns=self.showcase.columns, titles=self.showcase.titles)

    def _keep(self, images: Tensor, stem: str, *, key: str, step: int) -> None:
        path = self.run.samples / f"{stem}.png"
        save_png(self._grid(images), path)
        self.run_log.image(key, path, step=step)

    def _finish(self, images: Tensor, frames: Frames, *, step: int) -> None:
        save_png(self._grid(images), self.run.samples / "grid.png")
        path = self.run.samples / "denoising.gif"
        titles, columns = self.showcase.titles, self.showcase.columns
        width = columns_shown(columns, most=FILM_COLUMNS, points=images.is_floating_point())
        shown = places_shown(range(len(images)), columns, rows=len(titles), most=width)
        film(frames.of(shown), columns=width, titles=titles).save(path)
        self.run_log.image("samples/denoising", path, step=step)
