"""A trained run, opened to work with: its model, its data set, a new folder to write to."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from types import MappingProxyType

import torch
from omegaconf import DictConfig, OmegaConf

from ccdiff.config.build import (
    build_data,
    build_denoiser,
    image_shape_of,
    instantiate,
    plain,
)
from ccdiff.config.saved import read_config
from ccdiff.data import DataSet
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.samplers import Sampler, check_sampler
from ccdiff.errors import UserError
from ccdiff.generation.pipeline import Pipeline
from ccdiff.nn.unfilled import unfilled
from ccdiff.runs.checkpoints import Checkpoint, open_checkpoint
from ccdiff.runs.exports import HUB, export_folder
from ccdiff.runs.folder import Run, output_folder, run_of
from ccdiff.runs.log import finite, metric_rows
from ccdiff.runs.record import read_record
from ccdiff.runs.tracker import RunInfo
from ccdiff.system.device import autocast_dtype, pick_device
from ccdiff.trained.averages import averaged_weights, width_of
from ccdiff.trained.doubts import coupling_of, tell_doubts
from ccdiff.trained.exports import read_export
from ccdiff.trained.grids import fill_in_grid

__all__ = [
    "OpenedModel",
    "OpenedRun",
    "load_weak_model",
    "new_folder",
    "open_model",
    "open_run",
    "track",
    "trained_config",
    "trained_denoiser",
]

log = logging.getLogger(__name__)

Table = Sequence[Sequence[object]]


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A trained model with what it was trained with.

    Arguments:
        config: What it was trained with.
        denoiser: In evaluation mode, on the device.
        device: Where to work.
    """

    config: DictConfig
    denoiser: Denoiser
    device: torch.device

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return image_shape_of(self.config)

    def check_guidance(self, cfg: DictConfig) -> None:
        """Tries the guidance of a command on one label, before minutes of work.

        Raises:
            UserError: Where the model cannot be guided so.
        """
        y = self.denoiser.conditioning.example()
        instantiate(cfg.guidance)(self.denoiser, y.to(self.device))

    def pipeline(self, cfg: DictConfig, sampler: Sampler) -> Pipeline:
        """Draws images as a command says by guidance, threshold, schedule and batch_size.

        Where the batch size is auto, that of the pipeline is left to whoever knows the labels.
        What speaks against the sampler's settings is told before anything is drawn.
        """
        schedule = instantiate(cfg.schedule) if cfg.schedule else None
        tell_doubts(sampler, schedule or self.denoiser.schedule, coupling_of(self.config))
        pipeline = Pipeline(
            sampler=sampler,
            guidance=instantiate(cfg.guidance),
            threshold=instantiate(cfg.threshold),
            schedule=schedule,
            image_shape=self.image_shape,
        )
        if cfg.batch_size == "auto":
            return pipeline
        return replace(pipeline, batch_size=cfg.batch_size)


@dataclass(frozen=True, kw_only=True)
class OpenedRun(OpenedModel):
    """A checkpoint with what it says of itself.

    Arguments:
        path: The checkpoint file.
        checkpoint: Its contents.
    """

    path: Path
    checkpoint: Checkpoint

    @property
    def run(self) -> Run:
        """The run that it belongs to."""
        return run_of(self.path)

    @property
    def title(self) -> str:
        """What it is, for a reader: data, model, what was asked for, place and step."""
        record = read_record(self.run)
        what = record.title if record else ""
        # A folder named by the time of a day says little without the day.
        place = "/".join(self.run.path.absolute().parts[-2:])
        name = shorten(what, 90) or str(self.config.data._target_).rpartition(".")[2]
        return f"{name} ({place}), step {self.checkpoint['step']}"

    def data_set(self, *, root: str | None = None) -> DataSet:
        """The data set that it was trained on.

        Arguments:
            root: Where the data set is now, if it has moved.

        Raises:
            UserError: Where the data set has no root, or its labels are no longer those.
        """
        config = self.config.copy()
        if root is not None:
            if "root" not in config.data:
                raise UserError(
                    f"data.root={root}, but the run was trained on {config.data._target_}, which "
                    f"comes from no folder: leave data.root out"
                )
            config.data.root = root
        data = build_data(config)
        names = self.denoiser.conditioning.label_names
        if data.names != names:
            raise UserError(
                f"the data set has {len(data.names)} labels, {data.names[:5]}..., but "
                f"the run was trained on {len(names)}, {names[:5]}...: pass the data.root of its "
                f"own data set"
            )
        return data


def trained_config(checkpoint: Checkpoint) -> DictConfig:
    """The config that a checkpoint was trained with, with the names of today."""
    return read_config(checkpoint["config"], source="the checkpoint's config")


def trained_denoiser(
    checkpoint: Checkpoint, *, weights: str = "ema", run: Run | None = None
) -> Denoiser:
    """The denoiser of a checkpoint, on the CPU, in evaluation mode.

    Arguments:
        checkpoint: As :func:`~ccdiff.runs.checkpoints.load_checkpoint` returns it.
        weights: ``ema`` for the averaged weights, ``raw`` for those of the last step, or of a run
            with ``ema=posthoc`` the width of an average, such as ``0.12``.
        run: Where the snapshots are that a width asks for.

    Raises:
        UserError: Where ``weights`` is none of these, or cannot be had.
    """
    config = trained_config(checkpoint)
    if weights == "ema":
        prefix = "ema_model."
        state = {
            key.removeprefix(prefix): value
            for key, value in checkpoint["ema"].items()
            if key.startswith(prefix)
        }
    elif weights == "raw":
        state = checkpoint["denoiser"]
    elif (width := width_of(weights)) is not None:
        state = averaged_weights(checkpoint, run, ema=config.ema, sigma_rel=width)
    else:
        raise UserError(
            f"weights must be ema, raw or the width of an average, such as 0.12, got {weights!r}"
        )
    with unfilled():
        denoiser = build_denoiser(config)
    try:
        denoiser.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the checkpoint's weights do not fit its config: {reason}") from error
    return denoiser.requires_grad_(False).eval()


def load_weak_model(run: str | None, *, weights: str = "ema") -> Denoiser:
    """The weak model that autoguidance leads away from, named in a config by its run.

    Arguments:
        run: A run directory, whose newest checkpoint is taken, a checkpoint file, or ``latest``.
        weights: ``ema``, ``raw`` or the width of an average.

    Raises:
        UserError: Where there is no such run.
    """
    if run is None:
        raise UserError(
            "autoguidance leads away from a weak model: pass guidance.weak.run=<an earlier "
            "checkpoint of this run, or a smaller run on the same data>"
        )
    path, checkpoint = open_checkpoint(run)
    return trained_denoiser(checkpoint, weights=weights, run=run_of(path))


def track(
    trained: OpenedRun,
    values: Mapping[str, float],
    *,
    images: Mapping[str, Path],
    tables: Mapping[str, Table] = MappingProxyType({}),
) -> None:
    """Adds to the run's own record of the tracker, where this user has tracked it.

    A run from elsewhere names a project of somebody's choice: nothing is sent there.

    Arguments:
        trained: The run.
        values: Numbers.
        images: PNG or GIF files.
        tables: Rows of strings and numbers, the first of which names the columns.
    """
    tracker_id = trained.checkpoint["tracker_id"]
    if tracker_id is None:
        return
    config, record = plain(trained.config), read_record(trained.run)
    if record is None or not record.is_tracked_by(config["tracker"], tracker_id):
        log.info("%s was not tracked by you: its tracker is left alone", trained.run.path)
        return
    info = RunInfo(
        path=trained.run.path,
        config=config,
        name=None,
        group=None,
        tags=(),
        tracker_id=tracker_id,
    )
    logged = (row["step"] for row in metric_rows(trained.run.metrics))
    # Trackers drop what is logged for an earlier step.
    step = max([trained.checkpoint["step"], *logged])
    with instantiate(trained.config.tracker).session(info) as session:
        session.metrics(finite(values), step=step)
        for key, path in images.items():
            session.image(key, path, step=step)
        for key, rows in tables.items():
            session.table(key, rows, step=step)


def open_run(cfg: DictConfig) -> OpenedRun:
    """Opens the run that the keys run, weights, device and precision of a command name.

    Raises:
        UserError: Where there is none, or its model cannot be drawn from by the sampler asked for.
    """
    if cfg.run is None:
        raise UserError("which run? pass run=<run directory>, run=<checkpoint> or run=latest")
    if str(cfg.run).startswith(HUB):
        raise UserError(
            f"run={cfg.run} is an export, which has no checkpoint: sample.py, ccdiff.demo and "
            f"ccdiff.load take it, and this command takes a run"
        )
    path, checkpoint = open_checkpoint(cfg.run)
    if "sampler" in cfg:
        fill_in_grid(cfg.sampler, run_of(path))
    denoiser = trained_denoiser(checkpoint, weights=cfg.weights, run=run_of(path))
    if "sampler" in cfg:
        check_sampler(instantiate(cfg.sampler), denoiser)
    device = pick_device(cfg.device)
    denoiser.to(device).autocast_dtype = autocast_dtype(cfg.precision, device)
    log.info("working with %s (step %d) on %s", path, checkpoint["step"], device)
    return OpenedRun(
        path=path,
        checkpoint=checkpoint,
        config=trained_config(checkpoint),
        denoiser=denoiser,
        device=device,
    )


def open_model(cfg: DictConfig) -> OpenedModel:
    """Opens what the keys run, weights, device and precision name: a run, or an export.

    Raises:
        UserError: As :func:`open_run` does, and where an export is asked for other weights.
    """
    folder = None if cfg.run is None else export_folder(cfg.run)
    if folder is None:
        return open_run(cfg)
    if cfg.weights != "ema":
        raise UserError(f"weights={cfg.weights}: an export has the weights that it was made with")
    fill_in_grid(cfg.sampler, Run(folder))
    config, denoiser = read_export(folder)
    check_sampler(instantiate(cfg.sampler), denoiser)
    device = pick_device(cfg.device)
    denoiser.to(device).autocast_dtype = autocast_dtype(cfg.precision, device)
    log.info("working with the export %s on %s", cfg.run, device)
    return OpenedModel(config=config, denoiser=denoiser, device=device)


def new_folder(out: str | None, parent: Path, cfg: DictConfig) -> Path:
    """The folder asked for, which must be empty, or a numbered one; says how it was filled.

    Raises:
        UserError: Where the folder already holds something, or cannot be made.
    """
    folder = output_folder(out, parent)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    return folder
