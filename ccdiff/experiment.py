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
from ccdiff.runs import Run, find_checkpoint
from ccdiff.training.checkpoints import Checkpoint, load_checkpoint
from ccdiff.training.device import autocast_dtype, pick_device
from ccdiff.training.hooks import DrawGrids, HeldOutLoss, SaveCheckpoint, restore
from ccdiff.training.loop import Hook, TrainState, train
from ccdiff.training.settings import TrainerSettings
from ccdiff.training.showcase import showcase
from ccdiff.training.startup import check_fit, measure
from ccdiff.training.trackers import RunInfo, RunLog, read_metrics

__all__ = ["run_experiment"]

log = logging.getLogger(__name__)


def run_experiment(cfg: DictConfig, job: HydraConf) -> float:
    """Trains what ``cfg`` describes in the job's output directory.

    Returns:
        The last held-out error, ``heldout/eps_mse``.

    Raises:
        UserError: Where the parts do not fit together, before anything is trained.
    """
    run = Run(Path(job.runtime.output_dir))
    settings = cast(TrainerSettings, OmegaConf.to_object(cfg.trainer))
    device = pick_device(settings.device)
    checkpoint = _checkpoint_to_resume(cfg, run)

    torch.manual_seed(cfg.seed)
    data = build_data(cfg)
    train_split, heldout = data.load()
    denoiser = build_denoiser(cfg)
    objective = build_objective(cfg)
    check_fit(denoiser, objective, train_split)
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
        if state.step >= settings.steps:
            raise UserError(
                f"{run.path} has taken all its {state.step} steps; to go on, pass trainer.steps"
            )
        log.info("going on from step %d", state.step)

    config = save_config(cfg, run.config)
    info = _describe(cfg, job, run, checkpoint)
    with instantiate(cfg.tracker).session(info) as session:
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
            hooks=_hooks(cfg, settings, run, run_log, config, data, train_split, heldout),
        )
    log.info("trained for %.0f s; samples and checkpoints are in %s", state.seconds, run.path)
    return _last_heldout_error(run)


def _checkpoint_to_resume(cfg: DictConfig, run: Run) -> Checkpoint | None:
    if cfg.resume is not None:
        return load_checkpoint(find_checkpoint(cfg.resume))
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
    config: str,
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
        # Last, so that a run resumed from it has already logged this step.
        SaveCheckpoint(
            every=settings.checkpoint_every,
            keep=settings.keep,
            run=run,
            config=config,
            run_log=run_log,
        ),
    ]


def _last_heldout_error(run: Run) -> float:
    return next(
        row["heldout/eps_mse"]
        for row in reversed(read_metrics(run.metrics))
        if "heldout/eps_mse" in row
    )
