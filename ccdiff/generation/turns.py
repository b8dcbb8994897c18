"""A command's work in batches, dealt out by turns to the processes that torchrun started."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from ccdiff.distributed.group import gather
from ccdiff.distributed.ranks import is_main, rank, world_size
from ccdiff.system.console import beside_bars

__all__ = ["Advance", "by_turns", "parts_of"]

log = logging.getLogger(__name__)

T = TypeVar("T")

Advance = Callable[[int], object]
"""Told how many images have taken one more step."""


def parts_of(numbers: range, size: int) -> list[range]:
    """``numbers`` in order, ``size`` at a time."""
    return [numbers[i : i + size] for i in range(0, len(numbers), size)]


def by_turns(
    parts: Sequence[range], work: Callable[[range, Advance], T], *, before: int = 0, steps: int = 1
) -> Iterator[tuple[range, T]]:
    """Has ``work`` done on each part by one of the processes, with one bar for all.

    Which parts there are must not depend on the number of processes: what a part comes out as, to
    the last bit, may depend on what else is in it.

    Arguments:
        parts: Numbers of images.
        work: Makes what is wanted of a part, and tells of each step of its images.
        before: How many images there were already.
        steps: That an image takes. The bar counts these: images come by the batch, and it would
            stand still for as long.

    Yields:
        On rank 0 each part with its result, in order; nothing on the others.
    """
    if 0 < len(parts) < world_size():
        log.warning(
            "%d batches for %d processes: a smaller batch_size would give all of them work",
            len(parts),
            world_size(),
        )
    total = (before + sum(map(len, parts))) * steps
    hidden = None if is_main() else True
    unit = "image" if steps == 1 else "step"
    with (
        beside_bars(),
        tqdm(initial=before * steps, total=total, unit=unit, disable=hidden) as bar,
    ):
        for first in range(0, len(parts), world_size()):
            turn = parts[first : first + world_size()]
            taken = bar.n

            def advance(images: int, of: int = len(turn)) -> None:
                bar.update(images * of)  # The other processes are about as far.

            done = gather(work(turn[rank()], advance) if rank() < len(turn) else None)
            bar.update(taken + sum(map(len, turn)) * steps - bar.n)
            yield from zip(turn, done, strict=False)
