"""Draws the images of each setting of a curve, counting calls and seconds."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from ccdiff.curve.table import Setting
from ccdiff.diffusion.denoiser import Denoise, Denoiser
from ccdiff.diffusion.guidance import Guidance
from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.samplers import Sampler
from ccdiff.generation.pipeline import Pipeline, sample_seeds
from ccdiff.trained.run import OpenedRun

__all__ = ["Draw", "Progress"]


class Progress:
    """Counts calls of the network, one for each image, also where no bar is shown."""

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar
        self.calls = 0
        self.start = time.perf_counter()

    def add(self, calls: int) -> None:
        """So many have been made."""
        self.calls += calls
        self.bar.update(calls)

    def left(self) -> str:
        """The time to go, such as ``02:10``."""
        elapsed = time.perf_counter() - self.start
        return tqdm.format_interval(elapsed * (self.bar.total / self.calls - 1))


class Draw:
    """Draws the images of a setting, keeping time; the noise is a function of the seed alone.

    Arguments:
        trained: The model.
        cfg: Of the command.
        y: What the images shall show, [N] or [N, K].
        titles: Names of the noise of each, [N].
        progress: Told of every call.
    """

    def __init__(
        self,
        trained: OpenedRun,
        cfg: DictConfig,
        y: Tensor,
        titles: Sequence[str],
        progress: Progress,
    ) -> None:
        self.trained = trained
        self.cfg = cfg
        self.y = y
        self.titles = titles
        self.progress = progress

    def _pipeline(self, sampler: Sampler) -> Pipeline:
        pipeline = self.trained.pipeline(self.cfg, sampler)
        counted = _Counted(guidance=pipeline.guidance, progress=self.progress)
        return replace(pipeline, guidance=counted)

    def warm_up(self, sampler: Sampler) -> None:
        """The first batch of a process is slower than all others."""
        few = self.y[: self.cfg.batch_size]
        pipeline = self.trained.pipeline(self.cfg, sampler.brief())
        pipeline(self.trained.denoiser, few, None, seeds=range(len(few)))

    def __call__(self, setting: Setting, seed: int) -> tuple[Tensor, float]:
        """Images uint8 [N, C, H, W] and the seconds that one took."""
        self.progress.bar.set_description(f"seed {seed}, {setting}")
        start = time.perf_counter()
        images, _ = self._pipeline(setting.sampler)(
            self.trained.denoiser, self.y, None, seeds=sample_seeds(seed, self.titles, 1)
        )
        return images, (time.perf_counter() - start) / len(images)


@dataclass(frozen=True, kw_only=True)
class _Counted(Guidance):
    """The same guidance, whose calls are counted."""

    guidance: Guidance
    progress: Progress

    def __call__(self, denoiser: Denoiser, y: Tensor, drop: Tensor | None = None) -> Denoise:
        denoise = self.guidance(denoiser, y, drop)

        def counted(x_t: Tensor, level: Level) -> Tensor:
            x0_hat = denoise(x_t, level)
            self.progress.add(len(x_t))
            return x0_hat

        return counted
