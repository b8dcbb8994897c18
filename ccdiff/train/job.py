"""One training run from its config: build the parts, check that they fit, train, look."""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.conf import HydraConf
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ccdiff.config.build import (
    instantiate,
    plain,
)
from ccdiff.config.differences import config_hash, difference, flat, has_hash
from ccdiff.config.saved import load_config
from ccdiff.distributed import group as distributed
from ccdiff.distributed.ranks import is_main, rank, world_size
from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import Checkpoint, open_checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.log import RunLog, Unlogged, read_metrics
from ccdiff.runs.record import Record, read_record, recording
from ccdiff.runs.tracker import NoSession, RunInfo
from ccdiff.settings import TrainerSettings
from ccdiff.system.device import (
    device_name,
    own_gpu,
    pick_device,
)
from ccdiff.system.stopping import Preempted, Stop
from ccdiff.train.assembly import Training
from ccdiff.training.ddp import check_divides
from ccdiff.training.monitor.hooks import FIXED_SEEDS

__all__ = ["run_experiment"]

log = logging.getLogger(__name__)


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
    stop = Stop(settings.max_seconds)
    check_divides(settings)
    together = distributed.process_group(settings.device, timeout_seconds=settings.dist_timeout)
    with together as settings.device:
        run = Run(distributed.broadcast(Path(job.runtime.output_dir)))
        _check_same(cfg)
        try:
            if not is_main():
                return _follow(cfg, run, settings, stop)
            with run.alone():
                return distributed.broadcast(_run(cfg, job, run, settings, stop))
        except Preempted:
            # Whoever ends first has torchrun end rank 0, which may still be closing its record.
            distributed.barrier()
            raise


@dataclass(frozen=True)
class _Start:
    """What rank 0 tells the other processes when there is something to train."""

    checkpoint: Checkpoint | None


def _check_same(cfg: DictConfig) -> None:
    """Raises UserError where a process was started with another config than rank 0."""
    mine = plain(cfg)
    differing = difference(distributed.broadcast(mine), mine, ignore=("data.root", "data.cache"))
    if differing:
        told = ", ".join(f"{k}={new} (there {old})" for k, (old, new) in differing.items())
        raise UserError(
            f"rank {rank()} was started with another config than rank 0: {told}; give "
            f"all machines the same arguments"
        )


def _follow(cfg: DictConfig, run: Run, settings: TrainerSettings, stop: Stop) -> float:
    """Trains along with rank 0, which decides what is left to train and keeps all records."""
    told: _Start | float | None = distributed.broadcast(None)
    if isinstance(told, _Start):
        device = pick_device(settings.device)
        training = Training(cfg, run, settings, checkpoint=told.checkpoint, device=device)
        told = None  # Its checkpoint would take memory as long as training lasts.
        distributed.gather(device_name(device))
        with stop.listening():
            training(Unlogged(run.metrics, NoSession()), stop)
        told = distributed.broadcast(None)
    return cast(float, told)


def _run(
    cfg: DictConfig, job: HydraConf, run: Run, settings: TrainerSettings, stop: Stop
) -> float:
    """Finds what is there already, and keeps the record of the rest."""
    sweep = job.mode is RunMode.MULTIRUN
    record = read_record(run)
    if sweep and record is not None:
        _refuse_another(cfg, run, record)
        if record.finished(steps=settings.steps):
            record.refused = None
            record.write(run)
            log.info("finished earlier: %s", record.line)
            return cast(float, record.result)
    checkpoint = _checkpoint_to_resume(cfg, run, sweep=sweep)
    taken = checkpoint["step"] if checkpoint else 0
    told = f"{run.path} has taken all its {taken} steps"
    if taken >= settings.steps and not sweep and cfg.resume != "auto":
        raise UserError(f"{told}; to go on, pass trainer.steps")
    digest = config_hash(plain(cfg))
    if record is None or (checkpoint is None and not sweep):
        record = Record(digest, _choices(job), seeds={})
    elif cfg.resume is not None and difference(_saved_config(run), plain(cfg)):
        record.config_hash = digest
    if checkpoint is not None and record.tracker_id is None:
        record.tracker_id = checkpoint["tracker_id"]
    if taken >= settings.steps and record.finished(steps=settings.steps):
        log.info("%s", told)
        return cast(float, record.result)
    record.take_up(step=taken, batch_size=settings.batch_size)
    if taken >= settings.steps:
        # Killed between its last checkpoint and the end.
        log.info("%s", told)
        record.finish(_last_heldout_error(run))
        record.write(run)
        return cast(float, record.result)
    record.seeds = {"seed": cfg.seed, **FIXED_SEEDS}
    distributed.broadcast(_Start(checkpoint))
    build = partial(Training, cfg, run, settings, checkpoint=checkpoint)
    # Before its record is touched: what is refused leaves a run as it was.
    alone = sweep and world_size() == 1
    single = None if sweep else build(device=pick_device(settings.device))
    gpu = own_gpu(settings.device) if alone else nullcontext(settings.device)
    with recording(run, record, overrides=job.overrides.task), gpu as device:
        with _failing_visibly(cfg, job, run):
            training = single or build(device=pick_device(device))
        # It would take memory as long as training lasts.
        del checkpoint, build
        record.device = _counted(distributed.gather(device_name(training.device)))
        record.precision = training.precision
        speed = training.speed
        record.flops_per_image = speed.flops_per_image
        record.peak_flops_per_second = speed.peak_flops_per_second
        log.info(
            "training on %s in %s, whose peak is %.3g TFLOP/s on matrix products",
            record.device,
            record.precision,
            speed.peak_flops_per_second / 1e12,
        )
        log.info("samples and checkpoints go to %s", run.path)
        info = _describe(cfg, job, run, record.tracker_id, facts=asdict(speed))
        with instantiate(cfg.tracker).session(info) as session, stop.listening():
            record.tracker_id = session.tracker_id
            record.write(run)
            try:
                with distributed.contact():
                    training(RunLog(run.metrics, session, step=training.state.step), stop)
            finally:
                training.profile.close()
                record.step = training.state.step
                record.images_seen = training.state.step * settings.batch_size
                record.training_seconds = round(training.state.seconds, 2)
                split = training.timer.totals.items()
                record.sessions[-1].seconds = {part: round(s, 3) for part, s in split}
                log.info("time: %s", training.timer.summary)
        record.finish(_last_heldout_error(run))
    seconds = training.state.seconds
    log.info("trained for %.0f s; samples and checkpoints are in %s", seconds, run.path)
    return cast(float, record.result)


def _counted(names: list[str]) -> str:
    """``2 x cpu (1 threads)``: each name once, with how often it is there."""
    counts = {name: names.count(name) for name in names}
    return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())


@contextmanager
def _failing_visibly(cfg: DictConfig, job: HydraConf, run: Run) -> Iterator[None]:
    """Leaves a failed run in the tracker where a job of a sweep fails before it has one."""
    try:
        yield
    except Exception:
        with instantiate(cfg.tracker).session(_describe(cfg, job, run, None)):
            raise


def _refuse_another(cfg: DictConfig, run: Run, record: Record) -> None:
    """Raises UserError where the run is of another config, and says so in its record."""
    if has_hash(plain(cfg), record.config_hash):
        return
    before = _saved_config(run)
    differing = [
        f"{key}={new} (there {old})" for key, (old, new) in difference(before, plain(cfg)).items()
    ]
    record.refused = (
        f"{run.path} holds a run of another config: {', '.join(differing[:5]) or 'not saved'}; "
        f"pass another hydra.sweep.dir, or remove that folder"
    )
    record.write(run)
    raise UserError(record.refused)


def _saved_config(run: Run) -> dict[str, Any]:
    return plain(load_config(run.config)) if run.config.exists() else {}


def _checkpoint_to_resume(cfg: DictConfig, run: Run, *, sweep: bool) -> Checkpoint | None:
    """The checkpoint to go on from; in a sweep and by ``resume=auto`` the run's own, if any."""
    if cfg.resume not in (None, "auto"):
        return open_checkpoint(cfg.resume)[1]
    if not run.checkpoints():
        return None
    if sweep or cfg.resume == "auto":
        return open_checkpoint(str(run.path))[1]
    raise UserError(
        f"{run.path} already holds a run: go on with it by resume={run.path}, or pass another "
        f"hydra.run.dir"
    )


def _choices(job: HydraConf) -> dict[str, str]:
    """The option of each group, such as ``schedule: cosine``; Hydra's own groups left out."""
    named = dict(job.runtime.choices).items()
    return {group: option for group, option in named if option and not group.startswith("hydra/")}


def _describe(
    cfg: DictConfig,
    job: HydraConf,
    run: Run,
    tracker_id: str | None,
    *,
    facts: Mapping[str, float] | None = None,
) -> RunInfo:
    """What the tracker is told: the sweep is the group, the overrides are name and tags.

    Arguments:
        cfg: The whole config.
        job: Hydra's.
        run: Whose it is.
        tracker_id: Identity to continue under, or None for a new one.
        facts: What is known of the run besides its config.
    """
    sweep = job.mode is RunMode.MULTIRUN
    overrides = tuple(job.overrides.task)
    return RunInfo(
        path=run.path,
        config={**flat(plain(cfg), sep="/"), **_choices(job), **(facts or {})},
        name=(run.path.name if sweep else ",".join(overrides))[:128] or None,
        group="/".join(Path(job.sweep.dir).absolute().parts[-2:]) if sweep else None,
        tags=overrides,
        tracker_id=tracker_id,
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
