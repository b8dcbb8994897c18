"""Samples drawn part by part and kept, so that a command that was stopped goes on.

Any number of processes may draw what is missing, whatever their number was before.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from ccdiff.distributed.group import barrier, broadcast
from ccdiff.distributed.ranks import is_main
from ccdiff.generation.turns import Advance, by_turns, parts_of
from ccdiff.metrics.cache import keep, kept
from ccdiff.metrics.extractors import Extractor, Seen
from ccdiff.metrics.judge import Judge, Look
from ccdiff.system.background import Background

__all__ = ["Draw", "Numbered", "Shard", "Shards", "looks"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"(\d{8})-(\d{8})\.pt")

Draw = Callable[[range, Advance], Tensor]
"""Sample numbers to images, uint8 [B, C, H, W]; tells how many have taken one more step."""


class Numbered(Protocol):
    """Samples with consecutive numbers: ``numbers``, and ``images()`` uint8 [B, C, H, W]."""

    @property
    def numbers(self) -> range: ...
    def images(self) -> Tensor: ...


@dataclass(frozen=True)
class Shard:
    """Samples with consecutive numbers.

    Arguments:
        path: The file of the images.
        numbers: Of the samples.
    """

    path: Path
    numbers: range

    def images(self) -> Tensor:
        """uint8 [B, C, H, W]; empty where the file is damaged."""
        state = kept(self.path)
        return torch.empty(0) if state is None else state["images"]

    def seen(self, extractor: Extractor) -> Seen:
        """What an extractor makes of the images; kept beside them."""
        path = self._beside(extractor)
        state = kept(path)
        if state is None:
            seen = extractor.see(self.images())
            keep(seen._asdict(), path)
            return seen
        return Seen(state["features"], state["logits"])

    def keep(self, images: Tensor, seen: Sequence[tuple[Extractor, Seen]]) -> None:
        """Keeps the images, after what extractors make of them."""
        for extractor, found in seen:
            keep(found._asdict(), self._beside(extractor))
        keep({"images": images}, self.path)

    def _beside(self, extractor: Extractor) -> Path:
        return self.path.with_suffix(f".{extractor.name}-{extractor.fingerprint}.pt")


class Shards:
    """The samples of an evaluation, in a folder.

    A sample depends on its number alone, so more can be added at any time.

    Arguments:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def shard(self, numbers: range) -> Shard:
        """The part of these samples, whether or not it is there."""
        return Shard(self.folder / f"{numbers.start:08d}-{numbers.stop:08d}.pt", numbers)

    def done(self) -> list[Shard]:
        """Complete parts in order, no two of which share a sample; there may be gaps."""
        shards: list[Shard] = []
        for path in sorted(self.folder.iterdir()):
            if (match := _NAME.fullmatch(path.name)) is None:
                continue
            shard = Shard(path, range(int(match[1]), int(match[2])))
            free = shard.numbers.start >= (shards[-1].numbers.stop if shards else 0)
            if free and len(shard.images()) == len(shard.numbers):
                shards.append(shard)
        return shards

    def _tidied(self) -> list[Shard]:
        """What is done, without what a process was writing that was killed."""
        for unfinished in self.folder.glob(".*.partial"):
            unfinished.unlink()
        return self.done()

    def complete(
        self,
        n: int,
        draw: Draw,
        *,
        size: int,
        extractors: Sequence[Extractor] = (),
        steps: int = 1,
    ) -> list[Shard]:
        """Draws what is missing of ``n`` samples and returns all parts.

        Arguments:
            n: How many there shall be.
            draw: Draws samples.
            size: How many at a time, which are kept together.
            extractors: What looks at new samples, at once; it is kept too.
            steps: That a sample takes, of which ``draw`` tells.
        """
        done = broadcast(self._tidied() if is_main() else [])
        missing = [part for gap in _gaps(done, n) for part in parts_of(gap, size)]
        have = n - sum(map(len, missing))
        if have:
            log.info("%d samples are there already", have)
        progress = _Progress(have, n)
        with Background() as background:

            def work(numbers: range, advance: Advance) -> None:
                images = draw(numbers, advance)
                seen = [(extractor, extractor.see(images)) for extractor in extractors]
                background(partial(self.shard(numbers).keep, images, seen))

            for numbers, _ in by_turns(missing, work, before=have, steps=steps):
                progress.add(len(numbers))
        # Only now is everything on the disk.
        barrier()
        return sorted([*done, *map(self.shard, missing)], key=lambda shard: shard.numbers.start)


def _gaps(shards: Sequence[Shard], n: int) -> Iterator[range]:
    """Which of the first ``n`` numbers are in no shard."""
    start = 0
    for shard in shards:
        yield range(start, min(shard.numbers.start, n))
        start = shard.numbers.stop
    yield range(start, n)


class _Progress:
    """Says how far it is, and how long it takes."""

    def __init__(self, have: int, n: int) -> None:
        self.have, self.first, self.n = have, have, n
        self.start = time.perf_counter()

    def add(self, count: int) -> None:
        """So many more are there."""
        self.have += count
        each = (time.perf_counter() - self.start) / (self.have - self.first)
        left = tqdm.format_interval(each * (self.n - self.have))
        log.info("%d/%d samples, %s left", self.have, self.n, left)


def looks(shards: Sequence[Shard], y: Tensor, judge: Judge) -> Iterator[tuple[Look, Tensor]]:
    """What the judge sees in samples, part by part, each with what its samples were asked for.

    Arguments:
        shards: At least as many samples as labels; further ones are left out.
        y: What each sample was asked for, [N] or [N, K].
        judge: Who looks at them.
    """
    for shard in shards:
        asked = y[shard.numbers.start : shard.numbers.stop]
        if len(asked) == 0:
            return
        (features, logits), found = judge.put_together(*map(shard.seen, judge.eyes))
        n = len(asked)
        seen = Seen(features[:n], None if logits is None else logits[:n])
        yield Look(seen, found[:n]), asked
