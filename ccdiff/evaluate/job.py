"""Evaluates a trained run: draws samples, measures them and the model, writes it all down."""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from ccdiff.diffusion.denoiser import bind_label
from ccdiff.diffusion.levels import Reach
from ccdiff.diffusion.widest import WITHOUT_FLOAT64
from ccdiff.distributed.group import first
from ccdiff.distributed.ranks import is_main
from ccdiff.errors import UserError
from ccdiff.evaluate.narrowing import narrowings
from ccdiff.evaluate.page import write_page
from ccdiff.evaluate.report import (
    Report,
    class_distances_of,
    model_figures,
    real_agreement,
    real_images,
    sample_figures,
    seen_by,
)
from ccdiff.evaluate.shards import Draw, Shard, Shards, looks
from ccdiff.evaluate.subject import Subject, open_subject
from ccdiff.generation.pipeline import Pipeline
from ccdiff.generation.turns import Advance
from ccdiff.metrics.figures import Figure, compare
from ccdiff.metrics.label_use import eps_errors, label_use
from ccdiff.metrics.likelihood import Likelihood, bits_per_dimension, dequantise, log_density
from ccdiff.metrics.references import shuffled
from ccdiff.pages.figures import check_format
from ccdiff.seeding import generator_for, seed_for
from ccdiff.system.atomic import write_text
from ccdiff.system.locks import locked
from ccdiff.trained.run import track
from ccdiff.trained.together import auto_batch_size, check_batch_size, together

__all__ = ["run_evaluation"]

log = logging.getLogger(__name__)

_FEWEST = 20
# Real images at a time, with batch_size=auto.
_MEASURED = 256


def run_evaluation(cfg: DictConfig) -> Path:
    """Evaluates what ``cfg`` asks for; what was drawn before is not drawn again.

    Returns:
        The folder that holds ``metrics.json`` and ``index.html``.

    Raises:
        UserError: Where the run, the extractor or a number will not do, or another command is at
            work in the folder, before anything is drawn.
    """
    _check(cfg)
    with together(cfg) as mine:
        return _evaluate(mine)


def _evaluate(cfg: DictConfig) -> Path:
    earlier = [] if cfg.against is None else _read_figures(cfg.against)
    with first(is_main()):
        subject = open_subject(cfg)
    _refuse_another_way(earlier, subject)
    with _alone(subject.folder):
        try:
            _draw_and_measure(cfg, subject, earlier)
        except KeyboardInterrupt:
            log.info("stopped: the same command goes on with what is in %s", subject.folder)
            raise
    return subject.folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one command at a time work in the folder: each removes what others leave unfinished.

    Raises:
        UserError: On rank 0, where another command does.
    """

    def refuse(holder: str) -> None:
        raise UserError(
            f"{folder} is being written by another evaluation ({holder}): wait for it, stop it, "
            f"or pass another name="
        )

    if not is_main():
        yield
        return
    with locked(folder / ".lock", busy=refuse):
        yield


def _draw_and_measure(cfg: DictConfig, subject: Subject, earlier: Sequence[Figure]) -> None:
    pipeline = subject.trained.pipeline(cfg, subject.sampler)
    if cfg.batch_size == "auto":
        size = auto_batch_size(pipeline, subject.trained.denoiser, subject.y, None)
        pipeline = replace(pipeline, batch_size=size)
    shards = Shards(subject.folder / "samples").complete(
        cfg.n,
        _draw(cfg, subject, pipeline),
        size=pipeline.batch_size,
        extractors=subject.judge.eyes,
        steps=pipeline.sampler.steps,
    )
    if is_main():
        report = _measure(cfg, subject, shards, batch_size=min(pipeline.batch_size, _MEASURED))
        _write(report, shards, subject, _pairs(earlier, report.figures), format=cfg.format)


def _write(
    report: Report,
    shards: list[Shard],
    subject: Subject,
    pairs: list[tuple[Figure, Figure]],
    *,
    format: str,
) -> None:
    """Writes numbers and page, tells the tracker and the log."""
    write_text(subject.folder / "metrics.json", json.dumps(report.plain(), indent=1))
    run, train = subject.trained.run, subject.material.train
    pictures = write_page(report, shards, train, pairs, run, subject.folder, format=format)
    values = {f"evaluate/{figure.key}": figure.value for figure in report.figures}
    shown = {f"evaluate/{path.stem}": path for path in pictures}
    track(subject.trained, values, images=shown)
    for figure in report.figures:
        log.info("%s", figure)
    if report.use is not None and report.use.blind:
        log.warning("%s", report.use.warning)
    for told in narrowings(report.figures, pairs):
        log.warning("%s", told)
    log.info("the page is %s", subject.folder / "index.html")


def _check(cfg: DictConfig) -> None:
    if cfg.n < _FEWEST:
        raise UserError(f"n must be at least {_FEWEST} to say anything, got {cfg.n}")
    for key, least in (
        ("heldout_images", _FEWEST),
        ("likelihood_images", 0),
        ("likelihood_steps", 2),
    ):
        if cfg[key] < least:
            raise UserError(f"{key} must be at least {least}, got {cfg[key]}")
    check_batch_size(cfg)
    check_format(cfg.format)


def _draw(cfg: DictConfig, subject: Subject, pipeline: Pipeline) -> Draw:
    def draw(numbers: range, advance: Advance) -> Tensor:
        seeds = [seed_for(cfg.seed, "evaluate", i) for i in numbers]
        labels = subject.y[numbers.start : numbers.stop]
        return pipeline(subject.trained.denoiser, labels, None, seeds=seeds, on_step=advance)[0]

    return draw


def _measure(cfg: DictConfig, subject: Subject, shards: list[Shard], *, batch_size: int) -> Report:
    material, judge = subject.material, subject.judge
    judged = judge.judged(looks(shards, subject.y, judge))
    real = real_images(material, judge, subject.fingerprints)
    found, near = sample_figures(
        judged,
        real=real,
        real_agreement=real_agreement(material.heldout, judge, cfg.n),
        judge=judge,
        base=subject.of_samples,
    )
    use = label_use(
        subject.trained.denoiser,
        material.heldout.take(cfg.heldout_images),
        batch_size=batch_size,
    )
    excess = None
    if material.exact is not None:
        excess = eps_errors(
            subject.trained.denoiser,
            material.heldout.take(cfg.heldout_images),
            batch_size=batch_size,
            exact=material.exact,
        )
    found += model_figures(
        use,
        _likelihood(cfg, subject),
        excess=excess,
        base=subject.of_model,
        steps=cfg.likelihood_steps,
    )
    return Report(
        title=subject.trained.title,
        facts=subject.facts,
        figures=found,
        label_names=subject.label_names,
        y=subject.y,
        judged=judged,
        class_distances=class_distances_of(judged, real["train"], num_classes=material.num_labels),
        near=near,
        use=use,
    )


def _likelihood(cfg: DictConfig, subject: Subject) -> Likelihood:
    """Of held-out images given their labels, in single precision.

    Bits per dimension, or nats where points of the plane have no steps to be told apart by.
    """
    heldout, denoiser = subject.material.heldout, subject.trained.denoiser
    device = subject.trained.device
    index = shuffled(len(heldout))[: cfg.likelihood_images]
    if Reach.HERE not in denoiser.reaches:
        log.info("likelihoods are left out: the model learned no direction at each level")
        index = index[:0]
    elif device.type in WITHOUT_FLOAT64:
        log.info("bits per dimension are left out: they take float64, which %s lacks", device)
        index = index[:0]
    generator = generator_for("likelihood")
    exact = subject.material.exact
    found, errors = ([torch.zeros(0, dtype=torch.float64)] for _ in range(2))
    dtype, denoiser.autocast_dtype = denoiser.autocast_dtype, None
    try:
        # The noise of an image depends on its part, so parts do not depend on the machine.
        size = _MEASURED if cfg.batch_size == "auto" else cfg.batch_size
        for part in index.split(size) if len(index) else ():
            images = heldout.images[part].cpu()
            x0 = (dequantise(images, generator) if exact is None else images.double()).to(device)
            density = log_density(
                bind_label(denoiser, heldout.labels[part].to(device)),
                denoiser.schedule,
                x0,
                steps=cfg.likelihood_steps,
                generator=generator,
            )
            numbers = x0[0].numel()
            if exact is None:
                found.append(bits_per_dimension(density.value, num_pixels=numbers).cpu())
                errors.append(density.error.cpu() / (numbers * math.log(2)))
            else:
                found.append(-density.value.cpu())
                errors.append(density.error.cpu())
    finally:
        denoiser.autocast_dtype = dtype
    values, error = torch.cat(found), torch.cat(errors).mean().item()
    if exact is None:
        return Likelihood("bits_per_dimension", values, error)
    logs = exact.log_given(heldout.images[index].cpu(), heldout.labels[index].cpu())
    return Likelihood("nats_per_point", values, error, -logs.mean().item())


def _read_figures(place: str) -> list[Figure]:
    path = Path(place).expanduser()
    path = path / "metrics.json" if path.is_dir() else path
    try:
        return [Figure.parsed(plain) for plain in json.loads(path.read_text())["figures"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"against={place}: {path} is not what an evaluation has written: pass the folder "
            f"evaluation/<name> of a run"
        ) from error


def _refuse_another_way(earlier: Sequence[Figure], subject: Subject) -> None:
    """Raises where earlier samples were drawn or judged in another way than ours will be."""
    ours = seen_by(subject.of_samples, subject.judge.classifier)
    for figure in earlier:
        if figure.name == subject.judge.agreement_name:
            compare(figure, replace(figure, provenance=ours))


def _pairs(earlier: Sequence[Figure], ours: Sequence[Figure]) -> list[tuple[Figure, Figure]]:
    """Figures that came about in the same way, each earlier one with ours."""
    provenances = {(f.name, str(asdict(f.provenance))): f for f in earlier}
    keys = [(f.name, str(asdict(f.provenance))) for f in ours]
    return [
        (provenances[key], figure)
        for key, figure in zip(keys, ours, strict=True)
        if key in provenances
    ]
