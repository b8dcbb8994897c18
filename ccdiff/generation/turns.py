"""A command's work in batches, dealt out by turns to the processes that torchrun started."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from ccdiff.distributed.group import gather
from ccdiff.distributed.ranks import is_main, rank, world_size
from ccdiff.system.console import beside_bars

__all__ = ["by_turns", "parts_of"]

log = logging.getLogger(__name__)

T = TypeVar("T")


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
        beside_bars(),
        tqdm(initial=before, total=total, unit="image", disable=hidden) as bar,
    ):
        for first in range(0, len(parts), world_size()):
            turn = parts[first : first + world_size()]
            done = gather(work(turn[rank()]) if rank() < len(turn) else None)
            for part, result in zip(turn, done, strict=False):
                bar.update(len(part))
                yield part, result  # type: ignore[misc]
