"""A command's work in batches, dealt out by turns to the processes that torchrun started."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ccdiff.denoiser import Denoiser
from ccdiff.distributed import broadcast, gather, process_group
from ccdiff.errors import UserError
from ccdiff.generation import Generator
from ccdiff.ranks import is_main, processes_here, rank, world_size
from ccdiff.training.checkpoints import open_checkpoint

__all__ = ["by_turns", "check_batch_size", "fitting", "parts_of", "together"]

log = logging.getLogger(__name__)

T = TypeVar("T")

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


def parts_of(numbers: range, size: int) -> list[range]:
    """``numbers`` in order, ``size`` at a time."""
    return [numbers[i : i + size] for i in range(0, len(numbers), size)]


def by_turns(
    parts: Sequence[range], work: Callable[[range], T], *, before: int = 0
) -> Iterator[tuple[range, T]]:
    """Has ``work`` done on each part by one of the processes, with one bar for all.

    Which parts there are must not depend on the number of processes: what a part comes out as, to
    the last bit, may depend on what else is in it.

    Arguments:
        parts: Numbers of images.
        work: Makes what is wanted of a part.
        before: How many images there were already.

    Yields:
        On rank 0 each part with its result, in order; nothing on the others.
    """
    if 0 < len(parts) < world_size():
        log.warning(
            "%d batches for %d processes: a smaller batch_size would give all of them work",
            len(parts),
            world_size(),
        )
    total = before + sum(map(len, parts))
    hidden = None if is_main() else True
    with (
        logging_redirect_tqdm(),
        tqdm(initial=before, total=total, unit="image", disable=hidden) as bar,
    ):
        for first in range(0, len(parts), world_size()):
            turn = parts[first : first + world_size()]
            done = gather(work(turn[rank()]) if rank() < len(turn) else None)
            for part, result in zip(turn, done, strict=False):
                bar.update(len(part))
                yield part, result  # type: ignore[misc]
