"""A trained run, opened to work with: its model, its data set, a new folder to write to."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch
from omegaconf import DictConfig, OmegaConf

from ccdiff.compose import build_data, instantiate, plain, trained_config, trained_denoiser
from ccdiff.data import DataSet
from ccdiff.denoiser import Denoiser
from ccdiff.durable import made_folder
from ccdiff.errors import UserError
from ccdiff.generation import Generator
from ccdiff.runs import Run, run_of
from ccdiff.samplers import Sampler
from ccdiff.training.checkpoints import Checkpoint, open_checkpoint
from ccdiff.training.device import autocast_dtype, pick_device
from ccdiff.training.trackers import RunInfo, read_metrics

__all__ = ["Trained", "new_folder", "open_run", "track"]

log = logging.getLogger(__name__)

Table = Sequence[Sequence[object]]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A checkpoint with what it says of itself.

    Arguments:
        path: The checkpoint file.
        checkpoint: Its contents.
        config: What it was trained with.
        denoiser: In evaluation mode, on the device.
        device: Where to work.
    """

    path: Path
    checkpoint: Checkpoint
    config: DictConfig
    denoiser: Denoiser
    device: torch.device

    @property
    def run(self) -> Run:
        """The run that it belongs to."""
        return run_of(self.path)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        data = self.config.data
        return data.channels, data.image_size, data.image_size

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
        if data.label_names != names:
            raise UserError(
                f"the data set has {len(data.label_names)} labels, {data.label_names[:5]}..., but "
                f"the run was trained on {len(names)}, {names[:5]}...: pass the data.root of its "
                f"own data set"
            )
        return data

    def generator(self, cfg: DictConfig, sampler: Sampler) -> Generator:
        """Draws images as a command says by guidance, threshold, schedule and batch_size.

        Where the batch size is auto, that of the generator is left to whoever knows the labels.
        """
        generator = Generator(
            sampler=sampler,
            guidance=instantiate(cfg.guidance),
            threshold=instantiate(cfg.threshold),
            schedule=instantiate(cfg.schedule) if cfg.schedule else None,
            image_shape=self.image_shape,
        )
        if cfg.batch_size == "auto":
            return generator
        return replace(generator, batch_size=cfg.batch_size)


def track(
    trained: Trained,
    values: Mapping[str, float],
    *,
    images: Mapping[str, Path],
    tables: Mapping[str, Table] = MappingProxyType({}),
) -> None:
    """Adds to the run's own record of the tracker, where it had one.

    Arguments:
        trained: The run.
        values: Numbers.
        images: PNG or GIF files.
        tables: Rows of strings and numbers, the first of which names the columns.
    """
    tracker_id = trained.checkpoint["tracker_id"]
    if tracker_id is None:
        return
    info = RunInfo(
        path=trained.run.path,
        config=plain(trained.config),
        name=None,
        group=None,
        tags=(),
        tracker_id=tracker_id,
    )
    metrics = trained.run.metrics
    logged = [row["step"] for row in read_metrics(metrics)] if metrics.exists() else []
    # Trackers drop what is logged for an earlier step.
    step = max([trained.checkpoint["step"], *logged])
    with instantiate(trained.config.tracker).session(info) as session:
        session.metrics(values, step=step)
        for key, path in images.items():
            session.image(key, path, step=step)
        for key, rows in tables.items():
            session.table(key, rows, step=step)


def open_run(cfg: DictConfig) -> Trained:
    """Opens the run that the keys run, weights, device and precision of a command name.

    Raises:
        UserError: Where there is none.
    """
    if cfg.run is None:
        raise UserError("which run? pass run=<run directory>, run=<checkpoint> or run=latest")
    path, checkpoint = open_checkpoint(cfg.run)
    denoiser = trained_denoiser(checkpoint, weights=cfg.weights)
    device = pick_device(cfg.device)
    denoiser.to(device).autocast_dtype = autocast_dtype(cfg.precision, device)
    log.info("working with %s (step %d) on %s", path, checkpoint["step"], device)
    return Trained(
        path=path,
        checkpoint=checkpoint,
        config=trained_config(checkpoint),
        denoiser=denoiser,
        device=device,
    )


def _numbered_folder(parent: Path) -> Path:
    """Makes the first free number, ``001``, ``002``, ..., under ``parent``."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        taken = [int(path.name) for path in parent.iterdir() if path.name.isdigit()]
        folder = parent / f"{max(taken, default=0) + 1:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue  # Another command was quicker.
        return folder


def output_folder(out: str | None, parent: Path) -> Path:
    """Makes the folder asked for, where there is none, or a numbered one under ``parent``.

    Raises:
        UserError: Where it cannot be made.
    """
    return _numbered_folder(parent) if out is None else made_folder(out)


def new_folder(out: str | None, parent: Path, cfg: DictConfig) -> Path:
    """The folder asked for, which must be empty, or a numbered one; says how it was filled.

    Raises:
        UserError: Where the folder already holds something, or cannot be made.
    """
    folder = output_folder(out, parent)
    if any(folder.iterdir()):
        raise UserError(f"out={out} is not empty: pass another folder, or none")
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    return folder
