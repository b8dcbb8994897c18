"""One command in several processes: which checkpoint, which device, how many images at a time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig
from torch import Tensor

from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.distributed.group import broadcast, gather, process_group
from ccdiff.distributed.ranks import is_main, processes_here, world_size
from ccdiff.errors import UserError
from ccdiff.generation.pipeline import Pipeline
from ccdiff.runs.checkpoints import open_checkpoint

__all__ = ["auto_batch_size", "check_batch_size", "together"]

log = logging.getLogger(__name__)

# For another process to end its part. One that has ended is noticed at once.
_PATIENCE = 24 * 3600.0


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


def auto_batch_size(pipeline: Pipeline, denoiser: Denoiser, y: Tensor, drop: Tensor | None) -> int:
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
    fits = pipeline.largest_batch_size(denoiser, y[:1], hidden, processes=processes)
    size = broadcast(min([*gather(fits), share]))
    log.info("drawing %d images at a time", size)
    return size
