"""A trained run, opened to work with: its model, its data set, a new folder to write to."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ccdiff.config.build import build_data, instantiate, plain, trained_config, trained_denoiser
from ccdiff.data import DataSet
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.samplers import Sampler
from ccdiff.distributed.group import broadcast, gather, process_group
from ccdiff.distributed.ranks import is_main, processes_here, world_size
from ccdiff.errors import UserError
from ccdiff.generation.pipeline import Generator
from ccdiff.runs.checkpoints import Checkpoint, open_checkpoint
from ccdiff.runs.folder import Run, run_of
from ccdiff.runs.tracker import RunInfo, read_metrics
from ccdiff.system.atomic import made_folder
from ccdiff.system.device import autocast_dtype, pick_device

__all__ = [
    "Trained",
    "check_batch_size",
    "fitting",
    "new_folder",
    "open_run",
    "together",
    "track",
]

log = logging.getLogger(__name__)

Table = Sequence[Sequence[object]]

# For another process to end its part. One that has ended is noticed at once.
_PATIENCE = 24 * 3600.0


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


@contextmanager
def together(cfg: DictConfig) -> Iterator[DictConfig]:
    """Opens the group of processes; gives the config as it is for this one of them.

    The device is its own. The run is one checkpoint, the same for all, even while the run is being
    trained.
    """
    with process_group(cfg.device, timeout_seconds=_PATIENCE) as device:
        mine = cfg.copy()
        mine.device = device
        if world_size() > 1 and cfg.run is not None:
            mine.run = broadcast(str(open_checkpoint(cfg.run)[0]) if is_main() else None)
        yield mine


def check_batch_size(cfg: DictConfig) -> None:
    """Raises a UserError where ``batch_size`` is neither auto nor a number of images."""
    size = cfg.batch_size
    if size != "auto" and (isinstance(size, str) or size < 1):
        raise UserError(f"batch_size must be auto, or at least 1, got {size}")


def fitting(generator: Generator, denoiser: Denoiser, y: Tensor, drop: Tensor | None) -> int:
    """What ``batch_size=auto`` is for labels ``y``: the same for all processes.

    As many images as each of them has memory for, and no more than there are for each.
    """
    share = -(-len(y) // world_size())
    if share == 1:
        return share
    on_gpu = next(denoiser.parameters()).is_cuda
    # GPUs are not shared; the memory of a machine is.
    processes = 1 if on_gpu else processes_here()
    hidden = None if drop is None else drop[:1]
    fits = generator.fitted(denoiser, y[:1], hidden, processes=processes)
    size = broadcast(min([*gather(fits), share]))
    log.info("drawing %d images at a time", size)
    return size
