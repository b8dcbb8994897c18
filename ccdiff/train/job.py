"""One training run from its config: find what is left to do, build the parts, train, record."""

import logging
import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ccdiff.config.build import instantiate, plain
from ccdiff.config.differences import config_hash, difference, flat
from ccdiff.config.names import class_names
from ccdiff.config.saved import load_config
from ccdiff.distributed import group as distributed
from ccdiff.distributed.ranks import is_main, rank, world_size
from ccdiff.errors import UserError
from ccdiff.metrics.goals import reached, shown
from ccdiff.runs.checkpoints import open_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.log import RunLog, Unlogged, read_metrics
from ccdiff.runs.record import Record, read_record, recording, set_aside_damaged
from ccdiff.runs.tracker import NoSession, RunInfo
from ccdiff.settings import TrainerSettings
from ccdiff.system.device import device_name, own_gpu, pick_device
from ccdiff.system.stopping import Preempted, Stop, StoppedAtOnce
from ccdiff.system.typed import as_typed
from ccdiff.train.assembly import Training
from ccdiff.train.resuming import Finished, Found, Start, decide
from ccdiff.train.titles import run_title
from ccdiff.training.ddp import check_divides
from ccdiff.training.monitor.hooks import FIXED_SEEDS

__all__ = ["run_experiment", "train_job"]

log = logging.getLogger(__name__)


def train_job(cfg: DictConfig) -> float:
    """What ``train.py`` does: :func:`run_experiment` in the folder that Hydra chose."""
    return run_experiment(cfg, HydraConfig.get())


def run_experiment(cfg: DictConfig, job: HydraConf) -> float:
    """Trains what ``cfg`` describes in the job's output directory.

    A job of a sweep that an earlier launch finished is left alone; one that it did not finish is
    taken up from its last checkpoint.

    Returns:
        The last held-out error, ``heldout/eps_mse``.

    Raises:
        UserError: Where the parts do not fit together, before anything is trained, and where the
            directory holds another run.
        Preempted: Where a signal or ``trainer.max_time`` stopped it; everything is saved.
    """
    settings = cast(TrainerSettings, OmegaConf.to_object(cfg.trainer))
    stop = Stop(settings.max_seconds, elsewhere=distributed.asked_of_main)
    check_divides(settings)
    together = distributed.process_group(settings.device, timeout_seconds=settings.dist_timeout)
    with stop.listening(), together as settings.device:
        run = Run(distributed.broadcast(Path(job.runtime.output_dir)))
        _check_same(cfg)
        try:
            with run.alone() if is_main() else nullcontext():
                left = distributed.broadcast(_left(cfg, job, run) if is_main() else None)
                if isinstance(left, Start):
                    return _train(cfg, job, run, settings, start=left, stop=stop)
                return cast(float, cast(Finished, left).result)
        except StoppedAtOnce:
            raise
        except Preempted:
            # Whoever ends first has torchrun end rank 0, which may still be closing its record.
            distributed.barrier()
            raise


def _check_same(cfg: DictConfig) -> None:
    """Raises UserError where a process was started with another config than rank 0."""
    mine = plain(cfg)
    differing = difference(distributed.broadcast(mine), mine, ignore=("data.root", "data.cache"))
    if differing:
        shown = ", ".join(f"{k}={new} (there {old})" for k, (old, new) in differing.items())
        raise UserError(
            f"rank {rank()} was started with another config than rank 0: {shown}; give "
            f"all machines the same arguments"
        )


def _left(cfg: DictConfig, job: HydraConf, run: Run) -> Finished | Start:
    """What is left to do in the folder of the run; of one that is finished the record says so."""
    sweep, record = job.mode is RunMode.MULTIRUN, read_record(run)
    reference = str(run.path) if cfg.resume in (None, "auto") else cfg.resume
    there = Found(
        path=run.path,
        sweep=sweep,
        config=_saved_config(run),
        holds_checkpoints=bool(run.checkpoints()),
        open_checkpoint=lambda: open_checkpoint(reference)[1],
    )
    try:
        decision = decide(there, record, cfg)
    except UserError as error:
        if sweep and record is not None:
            record.refused = str(error)
            record.write(run)
        raise
    if isinstance(decision, Start):
        return decision
    log.info("%s", decision.reason)
    if decision.result is not None:
        if record is not None and record.refused is not None:
            record.refused = None
            record.write(run)
        return decision
    record = record or Record(config_hash(plain(cfg)), _choices(job, cfg), seeds={})
    record.take_up(step=cfg.trainer.steps, batch_size=cfg.trainer.batch_size)
    record.finish(_last_heldout_error(run))
    record.write(run)
    return replace(decision, result=record.result)


def _train(
    cfg: DictConfig,
    job: HydraConf,
    run: Run,
    settings: TrainerSettings,
    *,
    start: Start,
    stop: Stop,
) -> float:
    """Trains what is left, on all ranks alike; rank 0 keeps the record of it."""

    def build(device: str) -> Training:
        # Its checkpoint would take memory for as long as training lasts, were it kept.
        return Training(cfg, run, settings, checkpoint=start.take(), device=pick_device(device))

    opened = (
        _recorded(cfg, job, run, settings, start, build)
        if is_main()
        else _along(run, build(settings.device))
    )
    with opened as (training, run_log), stop.deferring():
        training(run_log, stop)
    return distributed.broadcast(_last_heldout_error(run) if is_main() else 0.0)


@contextmanager
def _along(run: Run, training: Training) -> Iterator[tuple[Training, RunLog]]:
    """What a rank other than 0 trains, and its log, which keeps nothing."""
    distributed.gather(device_name(training.device))
    yield training, Unlogged(run.metrics, NoSession())


@contextmanager
def _recorded(
    cfg: DictConfig,
    job: HydraConf,
    run: Run,
    settings: TrainerSettings,
    start: Start,
    build: Callable[[str], Training],
) -> Iterator[tuple[Training, RunLog]]:
    """What rank 0 trains, and its log; the record says how it went."""
    sweep = job.mode is RunMode.MULTIRUN
    record = _taken_up(cfg, job, run, start)
    # Before the record is touched: what is refused leaves a run as it was.
    single = None if sweep else build(settings.device)
    alone = sweep and world_size() == 1
    gpu = own_gpu(settings.device) if alone else nullcontext(settings.device)
    with recording(run, record, overrides=job.overrides.task), gpu as device:
        with _failing_visibly(cfg, job, run, record):
            training = single or build(device)
        speed = training.speed
        record.device = _counted(distributed.gather(device_name(training.device)))
        record.precision = training.precision
        record.flops_per_image = speed.flops_per_image
        record.peak_flops_per_second = speed.peak_flops_per_second
        log.info("%s", record.title)
        log.info(
            "training on %s in %s, whose peak is %.3g TFLOP/s on matrix products",
            record.device,
            record.precision,
            speed.peak_flops_per_second / 1e12,
        )
        log.info("samples and checkpoints go to %s", run.path)
        info = _describe(cfg, job, run, record, facts=asdict(speed))
        with instantiate(cfg.tracker).session(info) as session:
            record.tracked(plain(cfg)["tracker"], session.tracker_id)
            record.write(run)
            try:
                with distributed.contact():
                    yield training, RunLog(run.metrics, session, step=training.state.step)
            finally:
                training.profile.close()
                record.step = training.state.step
                record.images_seen = training.state.step * settings.batch_size
                record.training_seconds = round(training.state.seconds, 2)
                split = training.timer.totals.items()
                record.sessions[-1].seconds = {part: round(s, 3) for part, s in split}
                log.info("time: %s", training.timer.summary)
                _note_reached(record, run, training)
        record.finish(_last_heldout_error(run))
    seconds = training.state.seconds
    log.info("trained for %.0f s; samples and checkpoints are in %s", seconds, run.path)
    if not sweep:
        _tell_what_next(run)


def _tell_what_next(run: Run) -> None:
    """Names the picture to look at, and the command that draws more."""
    grid = run.samples / "grid.png"
    if grid.exists():
        log.info("look at %s", grid)
    log.info("to draw more: %s run=%s", as_typed("sample"), shlex.quote(os.path.relpath(run.path)))


def _note_reached(record: Record, run: Run, training: Training) -> None:
    """Notes what it cost to reach what was asked for, where that is the case."""
    goals, settings = training.goals, training.settings
    record.stop_at, record.reached = settings.stop_at, None
    if not goals:
        return
    rows = read_metrics(run.metrics)
    found = reached(
        goals,
        rows,
        batch_size=settings.batch_size,
        flops_per_image=record.flops_per_image,
        devices=world_size() if training.device.type == "cuda" else 0,
    )
    asked = " and ".join(map(str, goals))
    if found is None:
        log.info("%s was not reached: %s", asked, shown(goals, rows))
        return
    record.reached = asdict(found)
    log.info("%s was reached at %s", asked, found)


def _taken_up(cfg: DictConfig, job: HydraConf, run: Run, start: Start) -> Record:
    """The record of a run that is about to be trained, where an earlier launch has left it."""
    set_aside_damaged(run)
    record, digest = read_record(run), config_hash(plain(cfg))
    if record is None or not start.same_run:
        record = Record(digest, _choices(job, cfg), seeds={})
    elif cfg.resume is not None and difference(_saved_config(run), plain(cfg)):
        record.config_hash = digest
    if (checkpoint := start.checkpoint) is not None:
        record.tracker_id = record.tracker_id or checkpoint["tracker_id"]
    taken = checkpoint["step"] if checkpoint else 0
    record.take_up(step=taken, batch_size=cfg.trainer.batch_size)
    record.seeds = {"seed": cfg.seed, **FIXED_SEEDS}
    record.title = run_title(record.choices, [*record.overrides, *job.overrides.task])
    return record


def _counted(names: list[str]) -> str:
    """``2 x cpu (1 threads)``: each name once, with how often it is there."""
    counts = {name: names.count(name) for name in names}
    return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())


@contextmanager
def _failing_visibly(cfg: DictConfig, job: HydraConf, run: Run, record: Record) -> Iterator[None]:
    """Leaves a failed run in the tracker where a job of a sweep fails before it has one."""
    try:
        yield
    except Exception:
        with instantiate(cfg.tracker).session(_describe(cfg, job, run, record)):
            raise


def _saved_config(run: Run) -> dict[str, Any]:
    """The config that a run was started with; empty where there is none that can be read."""
    if not run.config.exists():
        return {}
    try:
        return plain(load_config(run.config))
    except UserError as error:
        log.warning("%s; a checkpoint has its own copy", error)
        return {}


def _choices(job: HydraConf, cfg: DictConfig) -> dict[str, str]:
    """The option of each group, such as ``schedule: cosine``; Hydra's own groups left out.

    Of a run that goes on without a record the classes, since its config does not say the options.
    """
    named = dict(job.runtime.choices).items()
    chosen = {
        group: option for group, option in named if option and not group.startswith("hydra/")
    }
    return chosen or class_names(plain(cfg))


def _describe(
    cfg: DictConfig,
    job: HydraConf,
    run: Run,
    record: Record,
    *,
    facts: Mapping[str, float] | None = None,
) -> RunInfo:
    """What a tracker shows of the run: a sweep is a group, overrides are tags.

    Arguments:
        cfg: The whole config.
        job: What Hydra knows of the job.
        run: The run.
        record: Has its title, and its identity for the tracker, None for a new one.
        facts: What is known of the run besides its config.
    """
    sweep = job.mode is RunMode.MULTIRUN
    return RunInfo(
        path=run.path,
        config={**flat(plain(cfg), sep="/"), **_choices(job, cfg), **(facts or {})},
        name=(run.path.name if sweep else record.title)[:128] or None,
        group="/".join(Path(job.sweep.dir).absolute().parts[-2:]) if sweep else None,
        tags=tuple(job.overrides.task),
        tracker_id=record.tracker_id,
    )


def _last_heldout_error(run: Run) -> float:
    return next(
        (
            row["heldout/eps_mse"]
            for row in reversed(read_metrics(run.metrics))
            if "heldout/eps_mse" in row
        ),
        math.inf,  # It was never finite.
    )
