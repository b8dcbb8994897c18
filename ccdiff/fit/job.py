"""One job of ``python -m ccdiff.fit``: the fine solution, the search, the file in the run."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from ccdiff.config.build import instantiate
from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.samplers import (
    DDIM,
    DPMpp2M,
    FittedMultistep,
    SampleNoise,
    Sampler,
    UniPC,
    check_sampler,
)
from ccdiff.diffusion.samplers.coefficients import Batch, fit_coefficients
from ccdiff.diffusion.samplers.fitting import fine_solution, fit_levels, rms_to
from ccdiff.diffusion.samplers.grids import Fitted, Logistic
from ccdiff.diffusion.schedules import Schedule
from ccdiff.errors import UserError
from ccdiff.generation.pipeline import sample_seeds
from ccdiff.metrics.references import asked_labels
from ccdiff.settings import Precision
from ccdiff.system.console import beside_bars
from ccdiff.trained.grids import FittedGrid, keep_grid
from ccdiff.trained.run import OpenedRun, open_run

__all__ = ["run_fit"]

log = logging.getLogger(__name__)


def run_fit(cfg: DictConfig) -> Path:
    """Fits to each number of steps; each outcome is kept as soon as it is found.

    Returns:
        The file of the run's grids and coefficients.

    Raises:
        UserError: Where the run, the sampler or a number will not do, before anything is drawn.
    """
    for key, least in (
        *(("images", 2), ("tries", 1), ("solution_steps", 1)),
        *(("rounds", 1), ("batch_size", 1)),
    ):
        if cfg[key] is not None and cfg[key] < least:
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
            f"fitted to: take a deterministic one, such as unipc, dpmpp_2m or ddim"
        )
    fits_all = isinstance(sampler, FittedMultistep)
    # What is to be fitted is not looked for in the run.
    trained = open_run(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "sampler"]))
    check_sampler(UniPC(steps=1) if fits_all else sampler, trained.denoiser)
    if fits_all and cfg.precision == Precision.auto:
        trained.denoiser.autocast_dtype = None  # Derivatives are differences of small moves.
    schedule = instantiate(cfg.schedule) if cfg.schedule else trained.denoiser.schedule
    images = cfg.images or (192 if fits_all else 48)
    size = cfg.batch_size if fits_all else images
    with torch.no_grad(), beside_bars():
        known = _solutions(trained, cfg, schedule, "fit", images=images, size=size)
        shown = _solutions(trained, cfg, schedule, "show", images=min(images, 96), size=size)
        for steps in cfg.steps:
            method = replace(sampler, steps=steps)
            fitted = (_fit_all if fits_all else _fit_grid)(cfg, method, schedule, known)
            before, after = (_rms(one, schedule, shown) for one in (method, fitted))
            assert isinstance(fitted.grid, Fitted)
            grid = FittedGrid(
                levels=fitted.grid.levels or (),
                rms=after,
                rms_before=before,
                step=trained.checkpoint["step"],
                weights=cfg.weights,
                coefficients=getattr(fitted, "coefficients", None),
            )
            path = keep_grid(trained.run, method, grid)
            log.info(
                "%s, %d steps: RMS to the ODE's solution %.4f on other noise than it was fitted "
                "to, %.4f %s",
                method.name,
                steps,
                after,
                before,
                "with unipc on its own grid" if fits_all else "with the sampler's own grid",
            )
    log.info(
        "what was fitted is in %s; draw with sampler=%s%s sampler.steps=%d",
        path,
        sampler.name,
        "" if fits_all else " sampler/grid=fitted",
        cfg.steps[0],
    )
    return path


def _fit_grid(
    cfg: DictConfig, method: Sampler, schedule: Schedule, known: Sequence[Batch]
) -> Sampler:
    (batch,) = known
    with tqdm(total=cfg.tries, unit="grid", disable=None) as bar:
        levels = fit_levels(
            method,
            batch.denoise,
            schedule,
            batch.eps,
            batch.exact,
            tries=cfg.tries,
            on_try=lambda: bar.update(),
        )
    return replace(method, grid=Fitted(levels=levels))


def _fit_all(
    cfg: DictConfig, method: Sampler, schedule: Schedule, known: Sequence[Batch]
) -> Sampler:
    starts = [cls(steps=method.steps, grid=Logistic()) for cls in (UniPC, DPMpp2M, DDIM)]
    with tqdm(unit="round", disable=None) as bar:

        def on_round(rms: float) -> None:
            bar.set_postfix_str(f"RMS {rms:.4f}")
            bar.update()

        return fit_coefficients(
            starts, schedule, known, rounds=cfg.rounds, name=method.name, on_round=on_round
        )


def _rms(sampler: Sampler, schedule: Schedule, batches: Sequence[Batch]) -> float:
    squares = [
        rms_to(b.exact, sampler, b.denoise, schedule, b.eps) ** 2 * b.exact.numel()
        for b in batches
    ]
    return (sum(squares) / sum(b.exact.numel() for b in batches)) ** 0.5


def _solutions(
    trained: OpenedRun, cfg: DictConfig, schedule: Schedule, name: str, *, images: int, size: int
) -> list[Batch]:
    """Noise and where it leads, in batches for coefficients, and in one for a grid."""
    labels, eps = _labels(trained, cfg, images), _noise(trained, cfg, name, images)
    batches = []
    for part, y in zip(eps.split(size), labels.split(size), strict=True):
        denoise = _denoise(trained, cfg, y)
        exact = fine_solution(denoise, schedule, part, steps=cfg.solution_steps)
        batches.append(Batch(denoise, part, exact))
    return batches


def _labels(trained: OpenedRun, cfg: DictConfig, images: int) -> Tensor:
    """Classes in turn, or attributes as they go together in held-out images."""
    _, heldout = trained.data_set(root=cfg.data.root).load()
    names = trained.denoiser.conditioning.label_names
    return asked_labels(heldout, n=images, num_labels=len(names)).to(trained.device)


def _denoise(trained: OpenedRun, cfg: DictConfig, y: Tensor) -> Denoise:
    guided = instantiate(cfg.guidance)(trained.denoiser, y)
    return instantiate(cfg.threshold)(guided)


def _noise(trained: OpenedRun, cfg: DictConfig, name: str, images: int) -> Tensor:
    seeds = sample_seeds(cfg.seed, [f"{name} {i}" for i in range(images)], 1)
    shape = torch.Size((images, *trained.image_shape))
    return SampleNoise(seeds, device=trained.device).randn(shape)
