"""How to draw, chosen by the names that the command line has for it, or by objects."""

import operator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig

from ccdiff.config.build import instantiate
from ccdiff.config.options import compose_option
from ccdiff.diffusion.guidance import CFG, Guidance, NoGuidance
from ccdiff.diffusion.samplers import Sampler
from ccdiff.diffusion.samplers.grids import Grid
from ccdiff.diffusion.thresholding import Threshold
from ccdiff.errors import UserError
from ccdiff.generation.pipeline import Pipeline
from ccdiff.runs.folder import Run
from ccdiff.trained.grids import fill_in_grid

__all__ = ["chosen_pipeline", "whole"]


def chosen_pipeline(
    own: Pipeline,
    run: Run | None,
    *,
    sampler: str | Sampler | None = None,
    grid: str | Grid | None = None,
    steps: int | None = None,
    guidance: str | float | Guidance | None = None,
    threshold: str | Threshold | None = None,
) -> Pipeline:
    """The pipeline of a model, with what is given in place of its own.

    Arguments:
        own: What the model was trained with.
        run: Where ``grid="fitted"`` is looked for.
        sampler: An option of ``sampler=``, or a sampler.
        grid: An option of ``sampler/grid=``, or a grid.
        steps: Of the sampler.
        guidance: A scale, an option of ``guidance=``, or a guidance.
        threshold: An option of ``threshold=``, or a threshold.

    Raises:
        UserError: Where there is no such option, or it does not take the value.
    """
    try:
        return replace(
            own,
            sampler=_sampler(own.sampler, run, sampler, grid, steps),
            guidance=_guidance(own.guidance, guidance),
            threshold=_option("threshold", threshold, Threshold) or own.threshold,
        )
    except ValueError as error:  # What a constructor refuses is what the user gave.
        raise UserError(str(error)) from error


def whole(value: Any) -> int | None:
    """A whole number of any type as an int; None for what is none."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _sampler(
    own: Sampler,
    run: Run | None,
    sampler: str | Sampler | None,
    grid: str | Grid | None,
    steps: int | None,
) -> Sampler:
    if steps is not None and whole(steps) is None:
        raise UserError(f"steps must be a whole number, got {steps!r}")
    if isinstance(sampler, str):
        node = _composed("sampler", sampler).copy()
        node.steps = node.steps if steps is None else int(steps)
        if run is not None:
            fill_in_grid(node, run)
        asked: Sampler = instantiate(node)
    else:
        # Before the grid, which may depend on them.
        asked = _option("sampler", sampler, Sampler) or own
        asked = asked if steps is None else replace(asked, steps=int(steps))
    if grid is None:
        return asked
    if not isinstance(grid, str):
        return replace(asked, grid=_option("sampler/grid", grid, Grid))
    node = _composed("sampler", "ddim", f"sampler/grid={grid}").copy()
    node.name, node.steps = asked.name, asked.steps
    if run is not None:
        fill_in_grid(node, run)
    return replace(asked, grid=instantiate(node).grid)


def _guidance(own: Guidance, asked: str | float | Guidance | None) -> Guidance:
    if isinstance(asked, int | float) and not isinstance(asked, bool):
        return NoGuidance() if asked == 1 else CFG(scale=asked)
    return _option("guidance", asked, Guidance) or own


def _option(group: str, asked: Any, kind: type) -> Any:
    """The object that is asked for, by its name or itself; None where nothing is."""
    if isinstance(asked, str):
        return instantiate(_composed(group, asked))
    if asked is not None and not isinstance(asked, kind):
        raise UserError(
            f"{group} must be the name of an option, or a {kind.__name__} that is made, got "
            f"{asked!r}"
        )
    return asked


@lru_cache(maxsize=256)
def _composed(group: str, option: str, *within: str) -> DictConfig:
    return compose_option(group, option, within=within)
