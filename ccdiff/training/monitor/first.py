"""The first pictures of a run, long before its first grid where a step is slow."""

import logging
from dataclasses import dataclass, replace
from typing import ClassVar

from ccdiff.diffusion.levels import Reach
from ccdiff.generation.pipeline import NotFinite, Pipeline
from ccdiff.pictures import grid, save_png
from ccdiff.runs.folder import Run
from ccdiff.runs.log import RunLog
from ccdiff.training.monitor.hooks import Showcase
from ccdiff.training.state import TrainState

__all__ = ["FirstPictures"]

log = logging.getLogger(__name__)

_TIMES = 2
_COLUMNS = 2
_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class FirstPictures:
    """Draws a few samples after 50 steps and after 100: by the weights as they are, in few steps.

    They cost a few per cent of the training up to there. Averaged weights are hardly trained then.

    Arguments:
        pipeline: How grids are sampled.
        showcase: What grids show, of which two columns are drawn.
        run: Where to.
        run_log: Where pictures go, too.
    """

    pipeline: Pipeline
    showcase: Showcase
    run: Run
    run_log: RunLog
    name: ClassVar[str] = "first pictures"
    every: ClassVar[int] = 50

    def __call__(self, state: TrainState) -> None:
        # At the end of a shorter run, where all hooks are called, its grids are drawn beside it.
        if state.step > _TIMES * self.every or state.step % self.every:
            return
        pipeline, shown = self.pipeline, self.showcase
        sampler = pipeline.sampler
        if sampler.reach is Reach.HERE:  # Else its few steps are what is trained for.
            sampler = replace(sampler, steps=min(sampler.steps, _STEPS))
        shown = replace(shown, columns=min(shown.columns, _COLUMNS))
        try:
            images, _ = replace(pipeline, sampler=sampler)(
                state.denoiser.eval(), shown.labels, None, seeds=shown.seeds
            )
        except NotFinite as error:
            log.warning("step %d: no picture: %s", state.step, error)
            return
        path = self.run.samples / f"raw_{state.step:08d}.png"
        save_png(grid(images, columns=shown.columns, titles=shown.titles), path)
        self.run_log.image("samples/raw", path, step=state.step)
        log.info("step %d  a first picture, still rough: %s", state.step, path)
