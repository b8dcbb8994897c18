"""The parts of a training run, built from its config and found to fit together."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from omegaconf import DictConfig, OmegaConf

from ccdiff.config.build import (
    build_data,
    build_denoiser,
    build_objective,
    instantiate,
    save_config,
)
from ccdiff.data import Batches, DataSet, describe
from ccdiff.diffusion.continuous import Continuous
from ccdiff.diffusion.denoiser import Denoiser, compile_network
from ccdiff.diffusion.levels import Reach
from ccdiff.diffusion.samplers import check_sampler
from ccdiff.distributed.group import broadcast, first
from ccdiff.distributed.ranks import is_main, local_rank, rank, slice_of, world_size
from ccdiff.errors import UserError
from ccdiff.generation.pipeline import Pipeline
from ccdiff.metrics.extractors import ClassifierSource, Material
from ccdiff.metrics.goals import Goal, check_goals, parse_goals
from ccdiff.runs.checkpoints import Checkpoint
from ccdiff.runs.folder import Run
from ccdiff.runs.log import RunLog
from ccdiff.settings import EvaluateSettings, OnNonFinite, TrainerSettings
from ccdiff.system.device import (
    autocast_dtype,
    compile_mode,
    explaining_failure,
    make_current,
    set_determinism,
)
from ccdiff.system.stopping import Stop
from ccdiff.train.resuming import check_config, check_data
from ccdiff.trained.start import keep_scale, start_from
from ccdiff.training.checks import (
    check_augment,
    check_batch,
    check_coupling,
    check_fit,
    check_noise,
    check_size,
    check_used,
)
from ccdiff.training.ddp import OnMain, make_optimizer
from ccdiff.training.loop import train
from ccdiff.training.monitor.first import FirstPictures
from ccdiff.training.monitor.hooks import DrawGrids, HeldOutLoss, showcase
from ccdiff.training.monitor.profiling import Profile
from ccdiff.training.monitor.quality import WatchQuality
from ccdiff.training.monitor.reaching import StopAt
from ccdiff.training.monitor.speed import Speed, matmul_peak
from ccdiff.training.monitor.timing import StepTimer, clock_of
from ccdiff.training.operations import measure, place_to_count
from ccdiff.training.posthoc import PostHoc, SaveSnapshot
from ccdiff.training.saving import RollBack, SaveCheckpoint, restore
from ccdiff.training.state import Hook, TrainState
from ccdiff.training.step import Update

__all__ = ["Training"]

log = logging.getLogger(__name__)


class Training:
    """The parts of a run, built and found to fit together; called, it trains.

    Arguments:
        cfg: The whole config.
        run: Where to.
        settings: Those of the trainer.
        checkpoint: To go on from, or None.
        device: Where to train.

    Raises:
        UserError: Where something does not fit.
    """

    def __init__(
        self,
        cfg: DictConfig,
        run: Run,
        settings: TrainerSettings,
        *,
        checkpoint: Checkpoint | None,
        device: torch.device,
    ) -> None:
        self.cfg = cfg
        self.run = run
        self.settings = settings
        self.device = device
        make_current(device)
        set_determinism(settings.deterministic, steps=settings.steps)
        torch.manual_seed(cfg.seed)
        self.data: DataSet = build_data(cfg)
        if checkpoint is not None:
            check_config(checkpoint, cfg)
        denoiser = build_denoiser(cfg)
        check_size(denoiser.network, self.data.image_shape)
        check_sampler(instantiate(cfg.sampler), denoiser)
        begins_with = checkpoint is None and cfg.init_from is not None
        scale = start_from(denoiser, cfg.init_from) if begins_with else {}
        self.objective = build_objective(cfg)
        # Reading a large folder for the first time takes long: what can be refused before, is.
        for key in ("sampler", "threshold", "optimizer", "ema", "tracker", "extractor"):
            if cfg[key] is not None:
                instantiate(cfg[key])
        _check_average(cfg.ema)
        if cfg.evaluate.every:
            _check_place(Path(cfg.evaluate.cache).expanduser(), "evaluate.cache")
        self.goals = self._goals(denoiser)
        check_augment(instantiate(cfg.augment), self.data.image_shape)
        if (labels := self.data.known_labels) is not None:
            denoiser.conditioning.check(labels)
        with first(local_rank() == 0):
            self.train_split, self.heldout = self.data.load()
        self.fingerprint = self.train_split.fingerprint()
        if broadcast(self.fingerprint) != self.fingerprint:
            raise UserError(f"rank {rank()} finds other training data than rank 0: see data.root")
        if checkpoint is not None:
            check_data(checkpoint, self.fingerprint)
        denoiser.conditioning.fit(self.train_split.labels)
        keep_scale(denoiser.conditioning, scale)
        check_fit(denoiser, self.objective, self.train_split)
        if world_size() > 1:
            check_used(denoiser, self.objective, self.train_split)
        check_noise(denoiser, self.objective, instantiate(cfg.sampler))
        check_batch(
            instantiate(cfg.auxiliary),
            instantiate(cfg.coupling),
            at_once=settings.batch_size // (settings.accumulate * world_size()),
        )
        check_coupling(
            instantiate(cfg.coupling),
            instantiate(cfg.sampler),
            self.train_split.labels,
            batch_size=settings.batch_size,
        )
        # It refuses models that it cannot guide, which the first grid would come to know late.
        instantiate(cfg.guidance)(denoiser, self.train_split.labels[:1], None)
        for line in describe(self.train_split, self.heldout, self.data.names):
            log.info("%s", line)
        place = place_to_count(device, self.data.image_shape)
        size = measure(denoiser, self.objective, self.train_split, place=place)
        log.info("%s", size)
        denoiser.to(device).autocast_dtype = autocast_dtype(settings.precision, device)
        dtype = denoiser.autocast_dtype or torch.float32
        self.precision = str(dtype).removeprefix("torch.")
        self.speed = Speed(size.training_flops, world_size() * matmul_peak(device, dtype))
        self.timer = StepTimer(clock_of(device))
        self.profile = Profile(settings.profile, device=device, folder=run.path / "profile")
        self.state = TrainState(
            denoiser=denoiser,
            ema=instantiate(cfg.ema)(denoiser),
            optimizer=make_optimizer(
                instantiate(cfg.optimizer), denoiser.parameters(), shard=settings.shard
            ),
        )
        # After the copy for averaging, which is only ever evaluated.
        if mode := compile_mode(settings.compile, device):
            compile_network(denoiser, mode)
        if checkpoint is not None:
            restore(self.state, checkpoint)
            log.info("going on from step %d", self.state.step)

    @explaining_failure("trainer.compile")
    def __call__(self, run_log: RunLog, stop: Stop) -> None:
        """Trains up to the last step, or until ``stop`` says so."""
        cfg, run, settings = self.cfg, self.run, self.settings
        if is_main():
            run.set_aside_after(self.state.step)
        # Who goes on with the run profiles again only by asking for it.
        kept = cast(DictConfig, OmegaConf.merge(cfg, {"trainer": {"profile": 0}}))
        save = SaveCheckpoint(
            every=settings.checkpoint_every,
            keep=settings.keep,
            keep_bytes=settings.keep_bytes,
            run=run,
            config=save_config(kept, run.config) if is_main() else "",
            data=self.fingerprint,
            run_log=run_log,
        )
        rolls_back = settings.on_nonfinite is OnNonFinite.rollback
        train(
            self._update(),
            speed=self.speed,
            run_log=run_log,
            hooks=self._hooks(run_log, save),
            after_step=self.profile if settings.profile and is_main() else None,
            save=OnMain(save, saves=True),
            stop=stop,
            rollback=RollBack(run=run, run_log=run_log) if rolls_back else None,
            stop_at=StopAt(goals=self.goals, run_log=run_log, batch_size=settings.batch_size)
            if self.goals
            else None,
        )

    def _goals(self, denoiser: Denoiser) -> list[Goal]:
        """What is to be reached, of figures that the run logs with an interval."""
        if self.settings.stop_at is None:
            return []
        goals, figures = parse_goals(self.settings.stop_at), ["heldout/eps_mse"]
        if self.cfg.evaluate.every:
            source = instantiate(self.cfg.extractor)
            numbers = isinstance(denoiser.conditioning, Continuous)
            name = "exact" if self.data.exact else "regressor" if numbers else "classifier"
            against = "null" if denoiser.conditioning.drop else "wrong_label"
            figures += [
                f"evaluate/label_{'error' if numbers else 'agreement'}_{name}",
                f"evaluate/label_gain_{against}",
            ]
            if isinstance(source, ClassifierSource):
                figures.append(f"evaluate/fd_{name}_to_heldout")
        check_goals(goals, figures, images=self.cfg.evaluate.images)
        return goals

    def _update(self) -> Update:
        """Takes one optimizer step after the other."""
        data, settings = self.data, self.settings
        coupling = instantiate(self.cfg.coupling)
        return Update(
            self.state,
            objective=self.objective,
            batches=Batches(
                self.train_split,
                batch_size=settings.batch_size,
                seed=self.cfg.seed,
                device=self.device,
                placement=data.placement,
                balance=data.balance,
                rows=slice(None) if coupling.looks else slice_of(settings.batch_size),
            ),
            coupling=coupling,
            flip=data.flip,
            settings=settings,
            seed=self.cfg.seed,
            timer=self.timer,
        )

    def _hooks(self, run_log: RunLog, save: SaveCheckpoint) -> list[Hook]:
        cfg, settings, heldout = self.cfg, self.settings, self.heldout
        pipeline = Pipeline(
            sampler=instantiate(cfg.sampler),
            guidance=instantiate(cfg.guidance),
            threshold=instantiate(cfg.threshold),
            image_shape=self.data.image_shape,
        )
        shown = showcase(
            self.data.names, self.train_split.labels, columns=settings.samples_per_label
        )
        # Compiled, a network takes minutes for images in another number, and a step is quick.
        early = settings.sample_every > FirstPictures.every and not compile_mode(
            settings.compile, self.device
        )
        first = FirstPictures(pipeline=pipeline, showcase=shown, run=self.run, run_log=run_log)
        return [
            *([OnMain(first)] if early else []),
            OnMain(
                HeldOutLoss(
                    every=settings.heldout_every,
                    split=heldout.take(settings.heldout_images),
                    trained=self.train_split.take(min(settings.heldout_images, len(heldout))),
                    batch_size=settings.batch_size,
                    run_log=run_log,
                    exact=self.data.exact,
                    interval=any(goal.figure == "heldout/eps_mse" for goal in self.goals),
                )
            ),
            OnMain(
                DrawGrids(
                    every=settings.sample_every,
                    last_step=settings.steps,
                    pipeline=pipeline,
                    showcase=shown,
                    run=self.run,
                    run_log=run_log,
                )
            ),
            *(OnMain(hook) for hook in self._snapshots()),
            *(OnMain(hook, saves=True) for hook in self._watch(run_log, save, pipeline)),
        ]

    def _snapshots(self) -> list[Hook]:
        """Keeps what averages of other widths are made of, where that is asked for."""
        ema = self.state.ema
        if not isinstance(ema, PostHoc):
            return []
        every = max(1, self.settings.steps // ema.snapshots)
        return [SaveSnapshot(every=every, run=self.run)]

    def _watch(self, run_log: RunLog, save: SaveCheckpoint, pipeline: Pipeline) -> list[Hook]:
        """Looks at the quality of samples, where that is asked for."""
        settings = cast(EvaluateSettings, OmegaConf.to_object(self.cfg.evaluate))
        if settings.every == 0:
            return []
        if len(self.heldout) < 2:
            log.warning("samples are not judged on the way: that takes 2 held-out images or more")
            return []
        if pipeline.sampler.reach is Reach.HERE:  # Else its few steps are what is trained for.
            sampler = replace(pipeline.sampler, steps=settings.steps)
            pipeline = replace(pipeline, sampler=sampler)
        return [
            WatchQuality(
                every=settings.every,
                images=settings.images,
                pipeline=pipeline,
                material=Material.of(
                    self.data,
                    self.train_split,
                    self.heldout,
                    cache=settings.cache,
                    device=self.device,
                ),
                source=instantiate(self.cfg.extractor),
                save=save.write,
                run=self.run,
                run_log=run_log,
                intervals=frozenset(goal.figure for goal in self.goals),
            )
        ]


def _check_average(ema: DictConfig) -> None:
    """Refuses what the average takes without a word, and is then none."""
    if ema.get("update_every", 1) < 1:
        raise UserError(f"ema.update_every must be at least 1, got {ema.update_every}")
    beta = ema.get("beta", 1.0)
    if not (isinstance(beta, float | int) and 0 <= beta <= 1):
        raise UserError(f"ema.beta must be from 0 to 1, got {beta}")


def _check_place(folder: Path, key: str) -> None:
    """Refuses a folder that could not be made, which would be found once there is work to keep."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        raise UserError(f"{key}={folder}: {there} is a file: pass another folder")
