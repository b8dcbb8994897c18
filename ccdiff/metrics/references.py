"""What real images look like to an extractor: made once per data set, and kept."""

import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ccdiff.data import Split
from ccdiff.metrics.cache import keep, kept
from ccdiff.metrics.extractors import Extractor
from ccdiff.metrics.sketch import Sketch
from ccdiff.seeding import generator_for

__all__ = ["asked_labels", "reference", "shuffled"]

log = logging.getLogger(__name__)

# Part of the key: a change of what is kept needs a new number.
_FORMAT = 1
_BATCH = 512


def shuffled(n: int) -> Tensor:
    """The order in which the images of a split are seen, int64 [n]: any first part is fair."""
    return torch.randperm(n, generator=generator_for("reference order"))


def asked_labels(heldout: Split, *, n: int, num_labels: int) -> Tensor:
    """What ``n`` samples are asked for: each class in turn, or the attributes of held-out images.

    A sample's label depends on its number alone.
    """
    if heldout.labels.ndim == 1:
        return torch.arange(n) % num_labels
    return heldout.labels[shuffled(len(heldout))[torch.arange(n) % len(heldout)]].cpu()


def _batches(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    for index in shuffled(len(split)).split(_BATCH):
        yield split.images[index], split.labels[index]


def reference(
    split: Split, extractor: Extractor, *, name: str, cache: Path, fingerprint: str | None = None
) -> Sketch:
    """The sketch of a split's images as they are: from ``cache`` where it is there, else kept.

    Arguments:
        split: Real images, never mirrored.
        extractor: What sees them.
        name: ``train`` or ``heldout``.
        cache: Folder to keep it in.
        fingerprint: Of the split, where it is known already.
    """
    size = "x".join(str(u) for u in split.images.shape[1:])
    key = f"{fingerprint or split.whole_fingerprint()}-{size}-{name}"
    path = cache / "references" / f"{key}-{extractor.name}-{extractor.fingerprint}-{_FORMAT}.pt"
    if (state := kept(path)) is not None:
        return Sketch.restored(state)
    log.info(
        "looking at %d real images (%s) with %s; it is kept", len(split), name, extractor.name
    )
    sketch = Sketch(scored=extractor.scored)
    with tqdm(total=len(split), desc=f"{name} reference", unit="image", disable=None) as bar:
        for images, y in _batches(split):
            sketch.add(extractor.see(images), y)
            bar.update(len(y))
    keep(sketch.state(), path)
    return sketch
