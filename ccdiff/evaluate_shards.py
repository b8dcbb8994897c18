"""Samples drawn part by part and kept, so that a command that was stopped goes on."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ccdiff.evaluation.extractors import Extractor, Seen
from ccdiff.evaluation.keeping import keep, kept

__all__ = ["Shard", "Shards", "first"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"(\d{8})-(\d{8})\.pt")

Draw = Callable[[range], Tensor]
"""Sample numbers to images, uint8 [B, C, H, W]."""


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
        path = self.path.with_suffix(f".{extractor.name}-{extractor.fingerprint}.pt")
        state = kept(path)
        if state is None:
            seen = extractor.see(self.images())
            keep({"features": seen.features, "logits": seen.logits}, path)
            return seen
        return Seen(state["features"], state["logits"])


class Shards:
    """The samples of an evaluation, in a folder.

    A sample depends on its number alone, so more can be added at any time.

    Arguments:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def done(self) -> list[Shard]:
        """Complete parts without a gap, from number 0 on."""
        shards: list[Shard] = []
        for path in sorted(self.folder.iterdir()):
            if (match := _NAME.fullmatch(path.name)) is None:
                continue
            numbers = range(int(match[1]), int(match[2]))
            expected = shards[-1].numbers.stop if shards else 0
            if numbers.start == expected and len(Shard(path, numbers).images()) == len(numbers):
                shards.append(Shard(path, numbers))
        return shards

    def complete(self, n: int, draw: Draw, *, size: int) -> list[Shard]:
        """Draws what is missing of ``n`` samples, ``size`` at a time, and returns all parts."""
        shards = self.done()
        have = shards[-1].numbers.stop if shards else 0
        if have:
            log.info("%d samples are there already", min(have, n))
        start, first = time.perf_counter(), have
        with (
            logging_redirect_tqdm(),
            tqdm(initial=min(have, n), total=n, unit="image", disable=None) as bar,
        ):
            while have < n:
                numbers = range(have, min(have + size, n))
                path = self.folder / f"{numbers.start:08d}-{numbers.stop:08d}.pt"
                keep({"images": draw(numbers)}, path)
                shards.append(Shard(path, numbers))
                have = numbers.stop
                bar.update(len(numbers))
                each = (time.perf_counter() - start) / (have - first)
                left = tqdm.format_interval(each * (n - have))
                log.info("%d/%d samples, %s left", have, n, left)
        return shards


def first(shards: Sequence[Shard], n: int) -> Iterator[tuple[Shard, int]]:
    """The parts that hold the first ``n`` samples, each with how many of its samples count."""
    for shard in shards:
        if shard.numbers.start < n:
            yield shard, min(n, shard.numbers.stop) - shard.numbers.start
