"""What a run does between steps: measure and draw."""

import logging
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from ccdiff.data import Split
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.distributed.group import barrier
from ccdiff.distributed.ranks import is_main
from ccdiff.generation.pipeline import Pipeline
from ccdiff.metrics.label_use import BIN_EDGES, by_level, eps_errors
from ccdiff.pictures import SHOWN_COLUMNS, grid, places_shown, save_gif, save_png
from ccdiff.runs.folder import Run
from ccdiff.runs.tracker import RunLog
from ccdiff.training.ddp import collect_optimizer
from ccdiff.training.loop import Hook
from ccdiff.training.monitor.showcase import Showcase
from ccdiff.training.state import TrainState

__all__ = ["DrawGrids", "HeldOutLoss", "OnMain", "noise_level_errors"]

log = logging.getLogger(__name__)

_FRAMES = 40
# Between two disjoint sets of 512 images of one kind the gap is a few per cent by chance.
_OVERFIT_GAP = 0.2
# Noise levels at which the error is taken: an image of a small split stands for several.
_FEWEST_LEVELS = 64


def noise_level_errors(denoiser: Denoiser, split: Split, *, batch_size: int) -> Tensor:
    """Mean squared error on ``eps`` in bins of log-SNR, averaged over ``split``.

    Returns:
        Errors [8], from noisy (-12..-9) to clean (9..12), in units of the noise variance.
    """
    times = -(-_FEWEST_LEVELS // len(split))
    images, labels = (u.repeat(times, *[1] * (u.ndim - 1)) for u in (split.images, split.labels))
    return by_level(eps_errors(denoiser, Split(images, labels), batch_size=batch_size))


@dataclass(frozen=True, kw_only=True)
class HeldOutLoss:
    """Logs the averaged model's error on held-out images, overall and per noise level.

    Also by how much it exceeds the error on as many training images, as a share of that: a model
    that learns its images by heart is told by this gap, which is near 0 before.

    Arguments:
        every: Steps between measurements.
        split: The held-out images.
        trained: As many of the training images.
        batch_size: Images at a time.
        run_log: Where to.
    """

    every: int
    split: Split
    trained: Split
    batch_size: int
    run_log: RunLog

    def __call__(self, state: TrainState) -> None:
        errors, trained = (
            noise_level_errors(state.averaged.eval(), split, batch_size=self.batch_size).tolist()
            for split in (self.split, self.trained)
        )
        row = {
            "heldout/eps_mse": sum(errors) / len(errors),
            "heldout/gap": sum(errors) / sum(trained) - 1,
        }
        if row["heldout/gap"] > _OVERFIT_GAP:
            log.warning(
                "step %d: the error on held-out images is %.0f %% above that on training images: "
                "the model is overfitting",
                state.step,
                100 * row["heldout/gap"],
            )
        for low, high, error in zip(BIN_EDGES, BIN_EDGES[1:], errors, strict=False):
            row[f"heldout/eps_mse_log_snr_{low}_to_{high}"] = error
        self.run_log.metrics(row, step=state.step)


@dataclass(frozen=True, kw_only=True)
class DrawGrids:
    """Draws the showcase with the raw and the averaged weights; at the end also as a film.

    Arguments:
        every: Steps between drawings.
        last_step: The step whose drawing is the final one.
        pipeline: How to sample.
        showcase: What to sample.
        run: Where to.
        run_log: Told of every picture.
    """

    every: int
    last_step: int
    pipeline: Pipeline
    showcase: Showcase
    run: Run
    run_log: RunLog

    def __call__(self, state: TrainState) -> None:
        for name, denoiser in (("raw", state.denoiser), ("ema", state.averaged)):
            film = name == "ema" and state.step == self.last_step
            images, frames = self.pipeline(
                denoiser.eval(),
                self.showcase.labels,
                None,
                seeds=self.showcase.seeds,
                num_frames=_FRAMES if film else 0,
            )
            self._keep(images, f"{name}_{state.step:08d}", key=f"samples/{name}", step=state.step)
            if film:
                self._finish(images, frames, step=state.step)

    def _grid(self, images: Tensor) -> Image.Image:
        return grid(images, columns=self.showcase.columns, titles=self.showcase.titles)

    def _keep(self, images: Tensor, stem: str, *, key: str, step: int) -> None:
        path = self.run.samples / f"{stem}.png"
        save_png(self._grid(images), path)
        self.run_log.image(key, path, step=step)

    def _finish(self, images: Tensor, frames: Tensor, *, step: int) -> None:
        save_png(self._grid(images), self.run.samples / "grid.png")
        film = self.run.samples / "denoising.gif"
        titles, columns = self.showcase.titles, self.showcase.columns
        filmed = frames[:, places_shown(range(len(images)), columns, rows=len(titles))]
        width = min(columns, SHOWN_COLUMNS)
        save_gif([grid(frame, columns=width, titles=titles) for frame in filmed], film)
        self.run_log.image("samples/denoising", film, step=step)


@dataclass(frozen=True)
class OnMain:
    """A hook that rank 0 runs while the other processes wait.

    Arguments:
        hook: What to run.
        saves: Whether it may write a checkpoint, for which the state must be whole.
    """

    hook: Hook
    saves: bool = False

    @property
    def every(self) -> int:
        """Steps between calls."""
        return self.hook.every

    def __call__(self, state: TrainState) -> None:
        if self.saves:
            collect_optimizer(state.optimizer)
        if is_main():
            self.hook(state)
        barrier()
