"""One job of ``python -m ccdiff.fit``: the fine solution, the search, the file in the run."""

import logging
from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from ccdiff.config.build import instantiate
from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.samplers import SampleNoise, Sampler
from ccdiff.diffusion.samplers.fitting import fine_solution, fit_levels, rms_to
from ccdiff.diffusion.samplers.grids import Fitted
from ccdiff.errors import UserError
from ccdiff.generation.pipeline import sample_seeds
from ccdiff.metrics.references import asked_labels
from ccdiff.system.console import beside_bars
from ccdiff.trained.grids import FittedGrid, keep_grid
from ccdiff.trained.run import OpenedRun, open_run

__all__ = ["run_fit"]

log = logging.getLogger(__name__)


def run_fit(cfg: DictConfig) -> Path:
    """Fits a grid for each number of steps; each is kept as soon as it is found.

    Returns:
        The file of the run's grids.

    Raises:
        UserError: Where the run, the sampler or a number will not do, before anything is drawn.
    """
    for key, least in (("images", 2), ("tries", 1), ("solution_steps", 1)):
        if cfg[key] < least:
            raise UserError(f"{key} must be at least {least}, got {cfg[key]}")
    if not cfg.steps or min(cfg.steps) < 1 or len(set(cfg.steps)) < len(cfg.steps):
        raise UserError(
            f"steps must name numbers of steps, each once, such as steps=[5,10], got {cfg.steps}"
        )
    if cfg.solution_steps < 2 * max(cfg.steps):
        raise UserError(
            f"solution_steps={cfg.solution_steps} is no fine solution for grids of "
            f"{max(cfg.steps)} steps: it takes at least twice as many, better ten times"
        )
    sampler: Sampler = instantiate(cfg.sampler)
    if sampler.stochastic:
        raise UserError(
            f"sampler={sampler.name} draws noise, so it follows no ODE that a grid could be "
            f"fitted to: take a deterministic one, such as unipc, dpmpp_2m, ddim or heun"
        )
    trained = open_run(cfg)
    schedule = instantiate(cfg.schedule) if cfg.schedule else trained.denoiser.schedule
    labels = _labels(trained, cfg)
    with torch.no_grad(), beside_bars():
        denoise = _denoise(trained, cfg, labels)
        noises = [_noise(trained, cfg, name) for name in ("fit", "show")]
        exact = [fine_solution(denoise, schedule, eps, steps=cfg.solution_steps) for eps in noises]
        for steps in cfg.steps:
            method = replace(sampler, steps=steps)
            with tqdm(total=cfg.tries, unit="grid", disable=None) as bar:
                levels = fit_levels(
                    method,
                    denoise,
                    schedule,
                    noises[0],
                    exact[0],
                    tries=cfg.tries,
                    on_try=lambda bar=bar: bar.update(),  # type: ignore[misc]
                )
            fitted = replace(method, grid=Fitted(levels=levels))
            before, after = (
                rms_to(exact[1], one, denoise, schedule, noises[1]) for one in (method, fitted)
            )
            grid = FittedGrid(
                levels=levels,
                rms=after,
                rms_before=before,
                step=trained.checkpoint["step"],
                weights=cfg.weights,
            )
            path = keep_grid(trained.run, method, grid)
            log.info(
                "%s, %d steps: RMS to the ODE's solution %.4f on other noise than it was fitted "
                "to, %.4f with the sampler's own grid",
                method.name,
                steps,
                after,
                before,
            )
    log.info(
        "the grids are in %s; draw with sampler=%s sampler/grid=fitted sampler.steps=%d",
        path,
        sampler.name,
        cfg.steps[0],
    )
    return path


def _labels(trained: OpenedRun, cfg: DictConfig) -> Tensor:
    """Classes in turn, or attributes as they go together in held-out images."""
    _, heldout = trained.data_set(root=cfg.data.root).load()
    names = trained.denoiser.conditioning.label_names
    return asked_labels(heldout, n=cfg.images, num_labels=len(names)).to(trained.device)


def _denoise(trained: OpenedRun, cfg: DictConfig, y: Tensor) -> Denoise:
    guided = instantiate(cfg.guidance)(trained.denoiser, y)
    return instantiate(cfg.threshold)(guided)


def _noise(trained: OpenedRun, cfg: DictConfig, name: str) -> Tensor:
    seeds = sample_seeds(cfg.seed, [f"{name} {i}" for i in range(cfg.images)], 1)
    shape = torch.Size((cfg.images, *trained.image_shape))
    return SampleNoise(seeds, device=trained.device).randn(shape)
