"""Measures samplers at several numbers of steps against a reference, from the same noise."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ccdiff.curve.plot import plot_curve
from ccdiff.curve.samplers import compose_sampler
from ccdiff.curve.table import Measurement, Row, Setting, summarise, table, write_csv
from ccdiff.data import Split, to_float
from ccdiff.diffusion.denoiser import Denoise, Denoiser
from ccdiff.diffusion.guidance import Guidance
from ccdiff.diffusion.samplers import Sampler
from ccdiff.diffusion.schedules import Level
from ccdiff.errors import UserError
from ccdiff.generation.pipeline import Pipeline, sample_seeds
from ccdiff.metrics import (
    Classifier,
    Moments,
    frechet_distance,
    label_agreement,
    load_classifier,
)
from ccdiff.trained.run import OpenedRun, new_folder, open_run, track

__all__ = ["run_curve"]

log = logging.getLogger(__name__)


def run_curve(cfg: DictConfig) -> Path:
    """Measures what ``cfg`` asks for; the table is written anew after each measurement.

    Returns:
        The folder that holds ``curve.csv``, ``curve.png`` and ``config.yaml``.

    Raises:
        UserError: Where the run, a sampler or a number will not do, before anything is drawn.
    """
    _check(cfg)
    grid = {
        Setting(name, compose_sampler(name, steps, cfg.sampler_overrides))
        for name in cfg.samplers
        for steps in cfg.steps
    }
    settings = sorted(grid, key=lambda s: (list(cfg.samplers).index(s.name), s.sampler.steps))
    reference = Setting(cfg.reference, compose_sampler(cfg.reference, cfg.reference_steps))
    solution = Setting(cfg.solution, compose_sampler(cfg.solution, cfg.solution_steps))
    if solution.sampler.stochastic:
        raise UserError(
            f"solution={cfg.solution} draws noise, so it solves no ODE: take a deterministic "
            f"sampler, such as dpmpp_2m or heun"
        )
    trained = open_run(cfg)
    data = trained.data_set(root=cfg.data.root)
    train, heldout = data.load()
    y, titles = _labels(heldout, len(data.names), cfg.num_per_label)
    classifier = load_classifier(
        train,
        heldout,
        num_labels=len(data.names),
        flip=data.flip,
        cache=Path(cfg.cache).expanduser(),
        device=trained.device,
    )
    judge = _Judge(classifier, heldout, y)
    out = new_folder(cfg.out, trained.run.path / "curve", cfg)
    rows: list[Row] = []
    everything = [solution, reference, *settings]
    work = len(cfg.seeds) * len(y) * sum(setting.sampler.calls for setting in everything)
    real = judge.real(_like(train, y))
    log.info(
        "drawing %d images in %d ways from %d seeds; what is known goes to %s",
        len(y),
        len(everything),
        len(cfg.seeds),
        out,
    )
    with (
        logging_redirect_tqdm(),
        tqdm(total=work, unit="call", unit_scale=True, smoothing=0.05, disable=None) as bar,
    ):
        progress = _Progress(bar)
        draw = _Draw(trained, cfg, y, titles, progress)
        draw.warm_up(settings[0].sampler)
        measured: dict[Setting, list[Measurement]] = {s: [] for s in [reference, *settings]}
        for seed in cfg.seeds:
            exact, _ = draw(solution, seed)
            for setting in measured:
                images, seconds = draw(setting, seed)
                solved = None if setting.sampler.stochastic else exact
                measured[setting].append(judge(images, solved, seconds))
                log.info(
                    "seed %d, %s: %s, %s left",
                    seed,
                    setting,
                    measured[setting][-1],
                    progress.left(),
                )
                rows = [summarise(s, done) for s, done in measured.items() if done]
                write_csv(table(rows, real, images=len(y)), out / "curve.csv")
            plot_curve(rows, real, out / "curve.png", title=_title(trained, cfg, len(y)))
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


def _labels(heldout: Split, num_labels: int, num_per_label: int) -> tuple[Tensor, list[str]]:
    """What the images shall show, with the names of their noise.

    As many of each class; or the attributes of held-out images, which go together as they do.
    """
    if heldout.labels.ndim == 1:
        y = torch.arange(num_labels).repeat_interleave(num_per_label)
    else:
        rows = heldout.labels
        y = rows[
            torch.arange(num_labels * num_per_label) * len(rows) // (num_labels * num_per_label)
        ]
    if len(y) < 2:
        raise UserError("a distance between distributions needs 2 images: raise num_per_label")
    return y, [f"curve {i}" for i in range(len(y))]


def _like(train: Split, y: Tensor) -> Split:
    """Training images with the classes ``y``; with attributes, as many as come."""
    labels = train.labels.cpu()
    if y.ndim == 2:
        return train.take(len(y))
    index = []
    for label, count in zip(*(u.tolist() for u in y.unique(return_counts=True)), strict=True):
        of_class = (labels == label).nonzero().squeeze(1)
        index.append(of_class[:: max(1, len(of_class) // count)][:count])
    chosen = torch.cat(index)
    return Split(train.images[chosen], labels[chosen])


class _Progress:
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


class _Draw:
    """Draws the images of a setting, keeping time; the noise is a function of the seed alone."""

    def __init__(
        self,
        trained: OpenedRun,
        cfg: DictConfig,
        y: Tensor,
        titles: Sequence[str],
        progress: _Progress,
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
        pipeline = self.trained.pipeline(self.cfg, replace(sampler, steps=1))
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
    progress: _Progress

    def __call__(self, denoiser: Denoiser, y: Tensor, drop: Tensor | None = None) -> Denoise:
        denoise = self.guidance(denoiser, y, drop)

        def counted(x_t: Tensor, level: Level) -> Tensor:
            x0_hat = denoise(x_t, level)
            self.progress.add(len(x_t))
            return x0_hat

        return counted


class _Judge:
    """Measures images that were drawn for the labels ``y``, against held-out ones."""

    def __init__(self, classifier: Classifier, heldout: Split, y: Tensor) -> None:
        self.classifier = classifier
        self.y = y
        self.heldout = Moments()
        for judgement in classifier.judge(heldout.images):
            self.heldout.add(judgement.features)

    def __call__(self, images: Tensor, exact: Tensor | None, seconds: float) -> Measurement:
        """Of images, with the exact solution from their noise where they have one."""
        agreement, distance = self._see(images, self.y)
        gap = None
        if exact is not None:
            gap = (to_float(images) - to_float(exact)).square().mean().sqrt().item()
        return Measurement(seconds, gap, agreement, distance)

    def real(self, train: Split) -> Measurement:
        """Of as many training images: what a perfect model would get."""
        return Measurement(0.0, None, *self._see(train.images, train.labels.cpu()))

    def _see(self, images: Tensor, y: Tensor) -> tuple[float, float]:
        features, logits = zip(*self.classifier.judge(images), strict=True)
        distance = frechet_distance(Moments(torch.cat(features)), self.heldout)
        return label_agreement(torch.cat(logits), y), distance


def _title(trained: OpenedRun, cfg: DictConfig, num_images: int) -> str:
    guidance = cfg.guidance._target_.rpartition(".")[2]
    told = "" if guidance == "NoGuidance" else f", {guidance} w = {cfg.guidance.get('scale')}"
    return (
        f"{trained.run.path.name}, step {trained.checkpoint['step']}{told}: "
        f"{num_images} images per seed, {len(cfg.seeds)} seed{'s' if len(cfg.seeds) > 1 else ''}"
    )
