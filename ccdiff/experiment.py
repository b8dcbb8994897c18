"""One training run from its config: build the parts, check that they fit, train, look."""

import logging
from pathlib import Path
from typing import cast

import torch
from hydra.conf import HydraConf
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ccdiff.compose import (
    build_data,
    build_denoiser,
    build_objective,
    instantiate,
    plain,
    save_config,
)
from ccdiff.data import Batches, DataSet, Split
from ccdiff.errors import UserError
from ccdiff.generation import Generator
from ccdiff.resuming import check_config, check_data
from ccdiff.runs import Run
from ccdiff.training.checkpoints import Checkpoint, open_checkpoint
from ccdiff.training.device import autocast_dtype, pick_device, set_determinism
from ccdiff.training.hooks import DrawGrids, HeldOutLoss
from ccdiff.training.loop import Hook, TrainState, train
from ccdiff.training.saving import RollBack, SaveCheckpoint, restore
from ccdiff.training.settings import OnNonFinite, TrainerSettings
from ccdiff.training.showcase import showcase
from ccdiff.training.startup import check_fit, check_noise, measure
from ccdiff.training.stopping import Stop
from ccdiff.training.trackers import RunInfo, RunLog, read_metrics

__all__ = ["run_experiment"]

log = logging.getLogger(__name__)


def run_experiment(cfg: DictConfig, job: HydraConf) -> float:
    """Trains what ``cfg`` describes in the job's output directory.

    Returns:
        The last held-out error, ``heldout/eps_mse``.

    Raises:
        UserError: Where the parts do not fit together, before anything is trained.
        Preempted: Where a signal or ``trainer.max_time`` stopped it; everything is saved.
    """
    run = Run(Path(job.runtime.output_dir))
    settings = cast(TrainerSettings, OmegaConf.to_object(cfg.trainer))
    stop = Stop(settings.max_seconds)
    with run.alone():
        return _train(cfg, job, run, settings, stop)


def _train(
    cfg: DictConfig, job: HydraConf, run: Run, settings: TrainerSettings, stop: Stop
) -> float:
    device = pick_device(settings.device)
    set_determinism(settings.deterministic)
    checkpoint = _checkpoint_to_resume(cfg, run)
    if checkpoint is not None and checkpoint["step"] >= settings.steps:
        told = f"{run.path} has taken all its {checkpoint['step']} steps"
        if cfg.resume != "auto":
            raise UserError(f"{told}; to go on, pass trainer.steps")
        # Killed or asked again after its last step: there is nothing left to do.
        log.info("%s", told)
        return _last_heldout_error(run)

    torch.manual_seed(cfg.seed)
    data = build_data(cfg)
    if checkpoint is not None:
        check_config(checkpoint, cfg)
    train_split, heldout = data.load()
    fingerprint = train_split.fingerprint()
    if checkpoint is not None:
        check_data(checkpoint, fingerprint)
    denoiser = build_denoiser(cfg)
    objective = build_objective(cfg)
    check_fit(denoiser, objective, train_split)
    check_noise(denoiser, objective, instantiate(cfg.sampler))
    log.info("%d training images, %d held out", len(train_split), len(heldout))
    log.info("%s", measure(denoiser, train_split))

    denoiser.to(device).autocast_dtype = autocast_dtype(settings.precision, device)
    log.info("training on %s in %s", device, denoiser.autocast_dtype or torch.float32)
    state = TrainState(
        denoiser=denoiser,
        ema=instantiate(cfg.ema)(denoiser),
        optimizer=instantiate(cfg.optimizer)(denoiser.parameters()),
    )
    if checkpoint is not None:
        restore(state, checkpoint)
        log.info("going on from step %d", state.step)
    run.set_aside_after(state.step)

    config = save_config(cfg, run.config)
    info = _describe(cfg, job, run, checkpoint)
    rolls_back = settings.on_nonfinite is OnNonFinite.rollback
    with instantiate(cfg.tracker).session(info) as session, stop.listening():
        run_log = RunLog(run.metrics, session, step=state.step)
        train(
            state,
            objective=objective,
            batches=Batches(
                train_split,
                batch_size=settings.batch_size,
                seed=cfg.seed,
                device=device,
                placement=data.placement,
                balance=data.balance,
            ),
            flip=data.flip,
            settings=settings,
            seed=cfg.seed,
            run_log=run_log,
            hooks=_hooks(cfg, settings, run, run_log, data, train_split, heldout),
            save=SaveCheckpoint(
                every=settings.checkpoint_every,
                keep=settings.keep,
                keep_bytes=settings.keep_bytes,
                run=run,
                config=config,
                data=fingerprint,
                run_log=run_log,
            ),
            stop=stop,
            rollback=RollBack(run=run, run_log=run_log) if rolls_back else None,
        )
    log.info("trained for %.0f s; samples and checkpoints are in %s", state.seconds, run.path)
    return _last_heldout_error(run)


def _checkpoint_to_resume(cfg: DictConfig, run: Run) -> Checkpoint | None:
    """The checkpoint to go on from; ``resume=auto`` is that of the run directory, if any."""
    if cfg.resume == "auto":
        return open_checkpoint(str(run.path))[1] if run.checkpoints() else None
    if cfg.resume is not None:
        return open_checkpoint(cfg.resume)[1]
    if run.checkpoints():
        raise UserError(
            f"{run.path} already holds a run: go on with it by resume={run.path}, or pass another "
            f"hydra.run.dir"
        )
    return None


def _describe(cfg: DictConfig, job: HydraConf, run: Run, checkpoint: Checkpoint | None) -> RunInfo:
    """What the tracker is told: the sweep is the group, the overrides are name and tags."""
    sweep = job.mode is RunMode.MULTIRUN
    overrides = tuple(job.overrides.task)
    return RunInfo(
        path=run.path,
        config=plain(cfg),
        name=",".join(overrides)[:128] or None,
        group="/".join(Path(job.sweep.dir).absolute().parts[-2:]) if sweep else None,
        tags=overrides,
        tracker_id=checkpoint["tracker_id"] if checkpoint else None,
    )


def _hooks(
    cfg: DictConfig,
    settings: TrainerSettings,
    run: Run,
    run_log: RunLog,
    data: DataSet,
    train_split: Split,
    heldout: Split,
) -> list[Hook]:
    generator = Generator(
        sampler=instantiate(cfg.sampler),
        guidance=instantiate(cfg.guidance),
        threshold=instantiate(cfg.threshold),
        image_shape=data.image_shape,
    )
    return [
        HeldOutLoss(
            every=settings.heldout_every,
            split=heldout.take(settings.heldout_images),
            trained=train_split.take(min(settings.heldout_images, len(heldout))),
            batch_size=settings.batch_size,
            run_log=run_log,
        ),
        DrawGrids(
            every=settings.sample_every,
            last_step=settings.steps,
            generator=generator,
            showcase=showcase(
                data.label_names, train_split.labels, columns=settings.samples_per_label
            ),
            run=run,
            run_log=run_log,
        ),
    ]


def _last_heldout_error(run: Run) -> float:
    return next(
        row["heldout/eps_mse"]
        for row in reversed(read_metrics(run.metrics))
        if "heldout/eps_mse" in row
    )
