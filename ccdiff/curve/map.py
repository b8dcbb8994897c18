"""Quality over the width of the averaged weights and the scale of guidance: a map of a run."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor

from ccdiff.config.build import instantiate
from ccdiff.curve.choices import compose_sampler
from ccdiff.curve.heat import plot_map
from ccdiff.curve.judged import open_judged
from ccdiff.curve.table import write_csv
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.guidance import CFG, Guidance, NoGuidance
from ccdiff.diffusion.samplers import Sampler, check_sampler
from ccdiff.errors import UserError
from ccdiff.generation.pipeline import Pipeline, sample_seeds
from ccdiff.metrics.over_seeds import Spread, over_seeds
from ccdiff.runs.folder import refuse_filled, run_of
from ccdiff.trained.run import OpenedRun, new_folder, open_run, track, trained_denoiser

__all__ = ["Place", "run_map"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place of the map with what was measured there.

    Arguments:
        weights: ``ema``, ``raw`` or a width.
        scale: Of guidance; None for the guidance asked for.
        metrics: Mean and deviation over seeds, by name.
    """

    weights: str
    scale: float | None
    metrics: Mapping[str, Spread]


def run_map(cfg: DictConfig) -> Path:
    """Draws with each average at each scale of guidance, from the same noise, and judges.

    Returns:
        The folder that holds ``map.csv``, ``map.png`` and ``config.yaml``.

    Raises:
        UserError: Where the run, an average, a scale or the sampler will not do, before anything
            is drawn.
    """
    refuse_filled(cfg.out)
    widths = list(cfg.widths) or [cfg.weights]
    scales = list(cfg.scales) or [None]
    _check(cfg, widths, scales)
    source = instantiate(cfg.extractor)
    source.check()
    trained = open_run(cfg)
    run = run_of(trained.path)
    sampler = _sampler(cfg, trained)
    check_sampler(sampler, trained.denoiser)
    guidances = {scale: _guidance(cfg, scale) for scale in scales}
    example = trained.denoiser.conditioning.example().to(trained.device)
    for guidance in guidances.values():
        guidance(trained.denoiser, example, None)
    models = {}
    for weights in widths:
        model = trained_denoiser(trained.checkpoint, weights=weights, run=run)
        model.autocast_dtype = trained.denoiser.autocast_dtype
        models[weights] = model.to(trained.device)
    judged = open_judged(cfg, trained, source)
    y, titles, judge = judged.y, judged.titles, judged.judge
    against, real = judged.against, judged.real
    out = new_folder(cfg.out, trained.run.path / "curve", cfg)
    pipeline = trained.pipeline(cfg, sampler)
    log.info(
        "drawing %d images at %d places from %d seeds by %s in %d steps; what is known goes to %s",
        *(len(y), len(widths) * len(scales), len(cfg.seeds), sampler.name, sampler.steps, out),
    )
    places: list[Place] = []
    for weights, model in models.items():
        for scale, guidance in guidances.items():
            with_it = replace(pipeline, guidance=guidance)
            readings = [
                judge.glance(_images(with_it, model, y, titles, seed), y, against)
                for seed in cfg.seeds
            ]
            metrics = {}
            for name in real:
                spread = over_seeds(reading[name] for reading in readings)
                assert spread is not None
                metrics[name] = spread
            places.append(Place(weights=weights, scale=scale, metrics=metrics))
            told = ", ".join(f"{name} {spread.mean:.4g}" for name, spread in metrics.items())
            log.info("weights %s, %s: %s", weights, _scale_name(scale), told)
            write_csv(_table(places, real, images=len(y)), out / "map.csv")
    title = f"{trained.title}\n{len(y)} images per seed, {len(cfg.seeds)} seeds, {sampler.name}"
    plot_map(
        {
            name: [[_figure(places, w, s, name) for s in scales] for w in widths]
            for name in reversed(list(real))
        },
        rows=widths,
        columns=[_scale_name(scale) for scale in scales],
        real=real,
        paths=[out / f"map.{kind}" for kind in dict.fromkeys(("png", cfg.format))],
        title=f"{title}, {sampler.steps} steps",
    )
    track(
        trained,
        {
            f"map/{place.weights}/{_scale_name(place.scale)}/{name}": spread.mean
            for place in places
            for name, spread in place.metrics.items()
        },
        images={"map": out / "map.png"},
        tables={"map/table": _table(places, real, images=len(y))},
    )
    log.info("the table and the map are in %s", out)
    return out


def _check(cfg: DictConfig, widths: Sequence[str], scales: Sequence[float | None]) -> None:
    for name, values in (("ema", widths), ("guidance.scale", scales), ("seeds", cfg.seeds)):
        if not values or len(set(values)) < len(values):
            raise UserError(f"{name} must name at least one, and each once, got {list(values)}")
    for key in ("samplers", "steps"):
        if len(cfg[key]) > 1:
            raise UserError(
                f"a map is drawn by one sampler in one number of steps, got {list(cfg[key])}: "
                f"pass one, or leave ema and lists of guidance.scale out for a curve"
            )
    for key in ("num_per_label", "batch_size"):
        if cfg[key] < 1:
            raise UserError(f"{key} must be at least 1, got {cfg[key]}")


def _sampler(cfg: DictConfig, trained: OpenedRun) -> Sampler:
    """The one asked for, else that of the run."""
    own = instantiate(trained.config.sampler)
    steps = cfg.steps[0] if cfg.steps else own.steps
    if steps < 1:
        raise UserError(f"steps must be at least 1, got {steps}")
    if not cfg.samplers and not cfg.sampler_overrides:
        return replace(own, steps=steps)
    name = cfg.samplers[0] if cfg.samplers else own.name
    return compose_sampler(name, steps, cfg.sampler_overrides, run=cfg.run)


def _guidance(cfg: DictConfig, scale: float | None) -> Guidance:
    """The guidance asked for at another scale; classifier-free where none is chosen."""
    own = instantiate(cfg.guidance)
    if scale is None:
        return own
    if isinstance(own, NoGuidance):
        return own if scale == 1 else CFG(scale=scale)
    if not hasattr(own, "scale"):
        raise UserError(f"{type(own).__name__} has no scale: leave guidance.scale out")
    return replace(own, scale=scale)


def _images(
    pipeline: Pipeline, model: Denoiser, y: Tensor, titles: Sequence[str], seed: int
) -> Tensor:
    return pipeline(model, y, None, seeds=sample_seeds(seed, titles, 1))[0]


def _figure(places: Sequence[Place], weights: str, scale: float | None, name: str) -> Spread:
    (found,) = (p for p in places if (p.weights, p.scale) == (weights, scale))
    return found.metrics[name]


def _scale_name(scale: float | None) -> str:
    return "guidance asked for" if scale is None else f"scale {scale:g}"


def _table(
    places: Sequence[Place], real: Mapping[str, float], *, images: int
) -> list[list[object]]:
    """The names of the columns, a line for each place, then training images."""
    lines: list[list[object]] = [
        [
            "weights",
            "scale",
            "seeds",
            "images_per_seed",
            *(n + e for n in real for e in ("", "_sd")),
        ]
    ]
    for place in places:
        spreads = [place.metrics[name] for name in real]
        cells = [cell for spread in spreads for cell in (spread.mean, spread.sd)]
        lines.append([place.weights, place.scale, spreads[0].n, images, *cells])
    of_real = [cell for value in real.values() for cell in (value, None)]
    lines.append(["training images", None, None, images, *of_real])
    return lines
