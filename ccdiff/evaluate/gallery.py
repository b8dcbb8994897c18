"""Samples to look at: which ones, in which rows, and real images of the same labels."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ccdiff.data import Split
from ccdiff.evaluate.report import Report
from ccdiff.evaluate.shards import Numbered
from ccdiff.generation.labels import frequent_rows, label_title
from ccdiff.metrics.references import shuffled
from ccdiff.pictures import grid, sheet

__all__ = ["COLUMNS", "Gallery", "Rows", "by_conviction", "pairs_of_nearest", "rows_of"]

COLUMNS = 10
"""Most images in a row of the page."""
_MOST_ROWS = 20
_FEWER_ROWS = 12
_MOST_POINTS = 250


class Gallery:
    """Samples by their numbers."""

    def __init__(self, shards: Sequence[Numbered]) -> None:
        self.shards = shards

    def __call__(self, numbers: Tensor) -> Tensor:
        """uint8 [len(numbers), C, H, W]."""
        found: dict[int, Tensor] = {}
        wanted = set(numbers.tolist())
        for shard in self.shards:
            if here := wanted.intersection(shard.numbers):
                images = shard.images()
                found |= {i: images[i - shard.numbers.start] for i in here}
        return torch.stack([found[i] for i in numbers.tolist()])


class Rows(NamedTuple):
    """What a page shows first: samples in rows of one label.

    Arguments:
        labels: One for each row, [R] or [R, K].
        numbers: Of the samples in each row.
        titles: The labels in words.
    """

    labels: Tensor
    numbers: list[Tensor]
    titles: list[str]

    def samples(self, gallery: Gallery) -> Image.Image:
        """The samples as a picture."""
        images = [gallery(numbers) for numbers in self.numbers]
        return sheet(images, columns=max(map(len, images)), titles=self.titles)

    def real(self, split: Split) -> Image.Image | None:
        """As many real images of the same labels; None where no label has one."""
        columns = max(map(len, self.numbers))
        order = shuffled(len(split))
        labels = split.labels.cpu()[order]
        rows = []
        for label in self.labels:
            same = labels == label
            where = order[(same if same.ndim == 1 else same.all(1)).nonzero().flatten()]
            rows.append(split.images[where[:columns]].cpu())
        if not any(map(len, rows)):
            return None
        return sheet(rows, columns=columns, titles=self.titles)


def rows_of(y: Tensor, names: Sequence[str], *, points: bool = False) -> Rows:
    """A row for each class, each of the most frequent combinations of attributes, or number.

    Arguments:
        y: What samples were asked for, [N] or [N, K].
        names: One per class, attribute or number.
        points: Whether they are points of the plane, of which a plot shows more.
    """
    if y.ndim == 1:
        found = [k for k in range(len(names)) if (y == k).any()][:_MOST_ROWS]
        labels = torch.tensor(found)
        most = _MOST_POINTS if points else COLUMNS
        numbers = [(y == k).nonzero().squeeze(1)[:most] for k in found]
    elif y.is_floating_point():
        labels = y[:_FEWER_ROWS]
        numbers = list(torch.arange(len(labels)).unsqueeze(1))
    else:
        labels = frequent_rows(y)[:_FEWER_ROWS]
        numbers = [(y == row).all(1).nonzero().squeeze(1)[:COLUMNS] for row in labels]
    return Rows(labels, numbers, [label_title(label, names) for label in labels])


def by_conviction(
    report: Report, gallery: Gallery, classes: Sequence[int], *, best: bool
) -> Image.Image:
    """Samples of some classes, those with the most of their label first, or with the least."""
    rows = []
    for k in classes:
        numbers = (report.y == k).nonzero().squeeze(1)
        order = report.judged.conviction[numbers].argsort(descending=best)
        rows.append(gallery(numbers[order[:COLUMNS]]))
    titles = [report.label_names[k] for k in classes]
    return sheet(rows, columns=max(map(len, rows)), titles=titles)


def pairs_of_nearest(report: Report, gallery: Gallery, train: Split) -> Image.Image:
    """The samples nearest to training images above these images."""
    order = report.near.distance.argsort()[:COLUMNS]
    twins = shuffled(len(train))[report.near.which[order]]
    pairs = torch.stack([gallery(order), train.images[twins].cpu()]).flatten(0, 1)
    return grid(pairs, columns=len(order), titles=["samples", "training images"])
