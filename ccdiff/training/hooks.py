"""What a run does between steps: measure and draw."""

import logging
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ccdiff.data import Split, to_float
from ccdiff.denoiser import Denoiser, expand_like
from ccdiff.generation import Generator
from ccdiff.runs import Run
from ccdiff.seeding import generator_for
from ccdiff.training.loop import TrainState
from ccdiff.training.showcase import Showcase
from ccdiff.training.trackers import RunLog
from ccdiff.visual import grid, save_gif, save_png

__all__ = ["DrawGrids", "HeldOutLoss", "noise_level_errors"]

log = logging.getLogger(__name__)

_BIN_EDGES = tuple(range(-12, 13, 3))
_FRAMES = 40
# Between two disjoint sets of 512 images of one kind the gap is a few per cent by chance.
_OVERFIT_GAP = 0.2


@torch.no_grad()
def noise_level_errors(denoiser: Denoiser, split: Split, *, batch_size: int) -> Tensor:
    """Mean squared error on ``eps`` in bins of log-SNR, averaged over ``split``.

    The noise levels are spread evenly over log-SNR -12..12 and, like the noise, are a function of
    an image's place alone, so figures of any runs compare, whatever schedule, prediction or
    weighting they train with. Their mean is the integrand of the variational bound: Kingma et
    al., Variational Diffusion Models, 2021 (arXiv:2107.00630), eq. 18.

    Returns:
        Errors [8], from noisy (-12..-9) to clean (9..12), in units of the noise variance.
    """
    device = next(denoiser.parameters()).device
    n, num_bins = len(split), len(_BIN_EDGES) - 1
    low, high = _BIN_EDGES[0], _BIN_EDGES[-1]
    levels = low + (high - low) * (torch.arange(n) + 0.5) / n
    # Images may be sorted by class: a fixed shuffle keeps level and label independent.
    levels = levels[torch.randperm(n, generator=generator_for("held-out levels"))].to(device)
    noise = torch.randn(split.images.shape, generator=generator_for("held-out noise"))
    errors = []
    for start in range(0, n, batch_size):
        part = slice(start, start + batch_size)
        x0, y = to_float(split.images[part].to(device)), split.labels[part].to(device)
        t = denoiser.schedule.time(levels[part].double())
        log_snr = denoiser.schedule.log_snr(t)
        alpha, sigma = (expand_like(u, x0).float() for u in denoiser.schedule.scales(log_snr))
        x0_hat = denoiser(alpha * x0 + sigma * noise[part].to(device), t, y)
        squared = (x0_hat - x0).square().flatten(1).mean(1)
        errors.append((alpha / sigma).flatten().square() * squared)
    bins = ((levels - low) * num_bins / (high - low)).long().clamp(0, num_bins - 1)
    sums = torch.zeros(num_bins, device=device).index_add_(0, bins, torch.cat(errors))
    return (sums / torch.bincount(bins, minlength=num_bins)).cpu()


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
        for low, high, error in zip(_BIN_EDGES, _BIN_EDGES[1:], errors, strict=False):
            row[f"heldout/eps_mse_log_snr_{low}_to_{high}"] = error
        self.run_log.metrics(row, step=state.step)


@dataclass(frozen=True, kw_only=True)
class DrawGrids:
    """Draws the showcase with the raw and the averaged weights; at the end also as a film.

    Arguments:
        every: Steps between drawings.
        last_step: The step whose drawing is the final one.
        generator: How to sample.
        showcase: What to sample.
        run: Where to.
        run_log: Told of every picture.
    """

    every: int
    last_step: int
    generator: Generator
    showcase: Showcase
    run: Run
    run_log: RunLog

    def __call__(self, state: TrainState) -> None:
        for name, denoiser in (("raw", state.denoiser), ("ema", state.averaged)):
            film = name == "ema" and state.step == self.last_step
            images, frames = self.generator(
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
        save_gif([self._grid(frame) for frame in frames], film)
        self.run_log.image("samples/denoising", film, step=step)
