"""Measures samplers at several numbers of steps against a reference, from the same noise."""

import logging
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from ccdiff.config.build import instantiate
from ccdiff.curve.choices import compose_sampler
from ccdiff.curve.draw import Draw, Progress
from ccdiff.curve.judged import open_judged
from ccdiff.curve.map import run_map
from ccdiff.curve.plot import plot_curve
from ccdiff.curve.table import Measurement, Row, Setting, summarise, table, write_csv
from ccdiff.curve.variance import variance_kept
from ccdiff.data import Split, to_float
from ccdiff.diffusion.levels import Reach
from ccdiff.diffusion.samplers import check_sampler
from ccdiff.diffusion.schedules import Schedule
from ccdiff.errors import UserError
from ccdiff.pages.figures import check_format
from ccdiff.runs.folder import refuse_filled
from ccdiff.system.console import beside_bars
from ccdiff.trained.run import OpenedRun, new_folder, open_run, track

__all__ = ["run_curve"]

log = logging.getLogger(__name__)

_OFF = 0.1
"""The share of a Gaussian's variance that a sampler may be off before it is said."""
_IMAGES_FOR_STD = 1000


def run_curve(cfg: DictConfig) -> Path:
    """Measures what ``cfg`` asks for; the table is written anew after each measurement.

    Where it names averages or scales of guidance, the map of both, see :mod:`ccdiff.curve.map`.

    Returns:
        The folder that holds ``curve.csv``, ``curve.png``, ``config.yaml``, and the figure in the
        format that is asked for.

    Raises:
        UserError: Where the run, a sampler or a number will not do, before anything is drawn.
    """
    check_format(cfg.format)
    if cfg.widths or cfg.scales:
        return run_map(cfg)
    refuse_filled(cfg.out)
    _check(cfg)
    grid = {
        Setting(name, compose_sampler(name, steps, cfg.sampler_overrides, run=cfg.run))
        for name in cfg.samplers
        for steps in cfg.steps
    }
    settings = sorted(grid, key=lambda s: (list(cfg.samplers).index(s.name), s.sampler.steps))
    compared_with = Setting(cfg.reference, compose_sampler(cfg.reference, cfg.reference_steps))
    solution = None
    if cfg.solution is not None:
        solution = Setting(cfg.solution, compose_sampler(cfg.solution, cfg.solution_steps))
    if solution is not None and solution.sampler.stochastic:
        raise UserError(
            f"solution={cfg.solution} draws noise, so it solves no ODE: take a deterministic "
            f"sampler, such as dpmpp_2m or heun"
        )
    source = instantiate(cfg.extractor)
    source.check()
    trained = open_run(cfg)
    everything = [*([solution] if solution else []), compared_with, *settings]
    _check_samplers(everything, trained)
    trained.check_guidance(cfg)
    judged = open_judged(cfg, trained, source)
    y, titles, judge = judged.y, judged.titles, judged.judge
    against, real = judged.against, judged.real
    out = new_folder(cfg.out, trained.run.path / "curve", cfg)
    schedule = instantiate(cfg.schedule) if cfg.schedule else trained.denoiser.schedule
    kept = _variances([compared_with, *settings], schedule, judged.train)
    rows: list[Row] = []
    work = len(cfg.seeds) * len(y) * sum(setting.sampler.calls for setting in everything)
    log.info(
        "drawing %d images in %d ways from %d seeds; what is known goes to %s",
        len(y),
        len(everything),
        len(cfg.seeds),
        out,
    )
    with (
        beside_bars(),
        tqdm(total=work, unit="call", unit_scale=True, smoothing=0.05, disable=None) as bar,
    ):
        progress = Progress(bar)
        draw = Draw(trained, cfg, y, titles, progress)
        draw.warm_up(settings[0].sampler)
        measured: dict[Setting, list[Measurement]] = {s: [] for s in [compared_with, *settings]}
        for seed in cfg.seeds:
            exact = draw(solution, seed)[0] if solution else None
            for setting in measured:
                images, seconds = draw(setting, seed)
                found = Measurement(
                    seconds_per_image=seconds,
                    rms_to_solution=None
                    if exact is None or setting.sampler.stochastic
                    else _rms(images, exact),
                    readings=judge.readings(images, y, against),
                )
                measured[setting].append(found)
                log.info("seed %d, %s: %s, %s left", seed, setting, found, progress.left())
                rows = [
                    summarise(s, done, variance_kept=kept[s])
                    for s, done in measured.items()
                    if done
                ]
                write_csv(table(rows, real, images=len(y)), out / "curve.csv")
            for kind in dict.fromkeys(("png", cfg.format)):
                plot_curve(rows, real, out / f"curve.{kind}", title=_title(trained, cfg, len(y)))
    values = {k: v for row in rows for k, v in row.flat().items()}
    tables = {"curve/table": table(rows, real, images=len(y))}
    track(trained, values, images={"curve": out / "curve.png"}, tables=tables)
    log.info("the table and the plot are in %s", out)
    return out


def _check(cfg: DictConfig) -> None:
    for key in ("samplers", "steps", "seeds"):
        values = list(cfg[key])
        name = "sampler" if key == "samplers" else key
        if not values or len(set(values)) < len(values):
            raise UserError(f"{name} must name at least one, and each once, got {values}")
    for key in ("num_per_label", "batch_size", "reference_steps", "solution_steps"):
        if cfg[key] < 1:
            raise UserError(f"{key} must be at least 1, got {cfg[key]}")
    if min(cfg.steps) < 1:
        raise UserError(f"steps must be at least 1, got {list(cfg.steps)}")


def _check_samplers(settings: Iterable[Setting], trained: OpenedRun) -> None:
    """Raises a UserError where the model cannot be drawn from by one of them."""
    for setting in settings:
        try:
            check_sampler(setting.sampler, trained.denoiser)
        except UserError as error:
            if Reach.HERE in trained.denoiser.reaches:
                raise
            raise UserError(
                f"{error}; for a curve of this run pass sampler=consistency solution=null "
                f"reference=consistency reference_steps=8"
            ) from error


def _variances(
    settings: Iterable[Setting], schedule: Schedule, train: Split
) -> dict[Setting, float]:
    """How much of a Gaussian's variance, as wide as training images are, each setting keeps."""
    std = to_float(train.take(_IMAGES_FOR_STD).images).std().item()
    if std == 0:
        raise UserError("all training images are the same flat picture: there is nothing to draw")
    kept = {setting: variance_kept(setting.sampler, schedule, std=std) for setting in settings}
    for setting, share in kept.items():
        if abs(share - 1) > _OFF:
            log.warning(
                "%s on the grid %s gives a Gaussian as wide as the data (std %.3f) %.3g times its "
                "variance: even an exact model's samples, before any threshold, come out with too "
                "%s contrast",
                setting,
                setting.grid,
                std,
                share,
                "much" if share > 1 else "little",
            )
    return kept


def _rms(images: Tensor, exact: Tensor) -> float:
    return (to_float(images) - to_float(exact)).square().mean().sqrt().item()


def _title(trained: OpenedRun, cfg: DictConfig, num_images: int) -> str:
    guidance = cfg.guidance._target_.rpartition(".")[2]
    told = "" if guidance == "NoGuidance" else f", {guidance} w = {cfg.guidance.get('scale')}"
    return (
        f"{trained.title}{told}\n"
        f"{num_images} images per seed, {len(cfg.seeds)} seed{'s' if len(cfg.seeds) > 1 else ''}"
    )
