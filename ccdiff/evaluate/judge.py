"""Samples in the eyes of an extractor and of a classifier, part by part."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ccdiff.evaluate.shards import Shard, first
from ccdiff.metrics.agreement import Attributes, Confusion, agreements
from ccdiff.metrics.extractors import Extractor, Seen
from ccdiff.metrics.sketch import Sketch

__all__ = ["Judged", "judge"]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Samples in the eyes of the extractor and of the classifier.

    Arguments:
        sketch: What they look like.
        agreement: The share of its labels that the classifier finds in each sample, [N].
        conviction: The probability that it gives the label, geometric mean over attributes, [N].
        taken: The class that each is taken for, [N]; None for attributes.
        confusion: Of classes; None for attributes.
        attributes: None for classes.
    """

    sketch: Sketch
    agreement: Tensor
    conviction: Tensor
    taken: Tensor | None
    confusion: Confusion | None
    attributes: Attributes | None


def judge(
    shards: Sequence[Shard],
    y: Tensor,
    *,
    extractor: Extractor,
    classifier: Extractor,
    num_labels: int,
) -> Judged:
    """Looks at samples part by part.

    Arguments:
        shards: At least as many samples as labels.
        y: What each sample was asked for, [N] or [N, K].
        extractor: Gives features.
        classifier: Judges labels; may be the same.
        num_labels: K, classes or attributes.
    """
    sketch = Sketch(scored=extractor.scored)
    counts = Confusion(num_labels) if y.ndim == 1 else Attributes(num_labels)
    agreed, convinced, taken = [], [], []
    for shard, count in first(shards, len(y)):
        asked = y[shard.numbers.start :][:count]
        features, logits = shard.seen(extractor)
        sketch.add(Seen(features[:count], None if logits is None else logits[:count]), asked)
        if classifier is not extractor:
            _, logits = shard.seen(classifier)
        assert logits is not None
        logits = logits[:count]
        counts.add(logits, asked)
        agreed.append(agreements(logits, asked))
        convinced.append(_conviction(logits, asked))
        taken.append(logits.argmax(1))
    return Judged(
        sketch=sketch,
        agreement=torch.cat(agreed),
        conviction=torch.cat(convinced),
        taken=torch.cat(taken) if y.ndim == 1 else None,
        confusion=counts if isinstance(counts, Confusion) else None,
        attributes=counts if isinstance(counts, Attributes) else None,
    )


def _conviction(logits: Tensor, y: Tensor) -> Tensor:
    if y.ndim == 1:
        return logits.softmax(1).gather(1, y[:, None]).squeeze(1)
    signs = y.float() * 2 - 1
    return logsigmoid(signs * logits).mean(1).exp()
