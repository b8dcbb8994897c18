"""The one judge of images, for training, evaluation and curve.

An extractor's features tell what images look like, and a classifier of the same data whether they
show what they were asked for. Both may be the same network.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ccdiff.data import Split
from ccdiff.errors import UserError
from ccdiff.metrics.agreement import Attributes, Confusion, Numbers, agreements
from ccdiff.metrics.extractors import (
    ClassifierExtractor,
    ClassifierSource,
    Extractor,
    Material,
    Seen,
    Source,
)
from ccdiff.metrics.frechet import frechet_distance
from ccdiff.metrics.intervals import Interval, half_samples, of_answers
from ccdiff.metrics.references import shuffled
from ccdiff.metrics.sketch import Sketch

__all__ = ["Judge", "Judged", "Look", "Reading", "images_like"]


class Look(NamedTuple):
    """What the judge sees in images, on the CPU.

    Arguments:
        seen: By the extractor.
        logits: Of the classifier, float32 [B, K].
    """

    seen: Seen
    logits: Tensor


class Reading(NamedTuple):
    """A figure with its 95 % interval for want of images."""

    value: float
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Samples in the eyes of the extractor and of the classifier.

    Arguments:
        sketch: What they look like.
        agreement: The part of each sample in label agreement, whose mean is that, [N].
        conviction: The probability that it gives the label, geometric mean over attributes; of
            numbers one that falls off with the error, [N].
        taken: The class that each is taken for, [N]; None for attributes and numbers.
        confusion: Of classes, else None.
        attributes: Of attributes, else None.
        numbers: Of numbers, else None.
    """

    sketch: Sketch
    agreement: Tensor
    conviction: Tensor
    taken: Tensor | None
    confusion: Confusion | None
    attributes: Attributes | None
    numbers: Numbers | None = None


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Looks at images and says what they show and what they are like.

    Arguments:
        extractor: Gives features.
        classifier: Judges labels; may be the same.
        num_labels: K, classes or attributes.
    """

    extractor: Extractor
    classifier: ClassifierExtractor
    num_labels: int

    @classmethod
    def open(cls, source: Source, material: Material) -> "Judge":
        """The judge of a data set; may train its classifier.

        Arguments:
            source: Where features come from.
            material: The data set.

        Raises:
            UserError: Where the weights of the extractor are not to be had, or it is for images
                and the data are points.
        """
        if material.exact is not None and not isinstance(source, ClassifierSource):
            raise UserError(
                "this extractor looks at images, and the data are points of the plane, which are "
                "judged by their exact density: use extractor=classifier"
            )
        # Before the classifier, whose training takes minutes.
        source.check()
        classifier = ClassifierSource().open(material)
        same = isinstance(source, ClassifierSource)
        extractor = classifier if same else source.open(material)
        return cls(extractor=extractor, classifier=classifier, num_labels=material.num_labels)

    @property
    def eyes(self) -> list[Extractor]:
        """The networks that look at images: two, or one that does both."""
        return list(dict.fromkeys([self.extractor, self.classifier]))

    @property
    def agreement_name(self) -> str:
        """How the share of labels found is called, such as ``label_agreement_classifier``.

        Of numbers it is ``label_error_regressor``, which is lower where they agree better.
        """
        numbers = self.classifier.classifier.numbers
        return self.classifier.metric("label_error" if numbers else "label_agreement")

    @property
    def distance_name(self) -> str:
        """How the distance to held-out images is called, such as ``fd_classifier_to_heldout``."""
        return f"{self.extractor.metric('fd')}_to_heldout"

    def look(self, images: Tensor) -> Look:
        """Looks at uint8 images [B, C, H, W]."""
        seen = self.extractor.see(images)
        same = self.extractor is self.classifier
        return self.put_together(seen, seen if same else self.classifier.see(images))

    def put_together(self, *seen: Seen) -> Look:
        """The look that what each of :attr:`eyes` has seen makes up, in their order."""
        logits = seen[-1].logits
        assert logits is not None, "a classifier gives logits"
        return Look(seen[0], logits)

    def judged(self, parts: Iterable[tuple[Look, Tensor]]) -> Judged:
        """Puts parts of one set of images together.

        Arguments:
            parts: Looks in order, each with what its images were asked for, [B] or [B, K].
        """
        sketch = Sketch(scored=self.extractor.scored)
        counts: Confusion | Attributes | Numbers | None = None
        answers: list[Tensor] = []
        labels: list[Tensor] = []
        convinced, taken = [], []
        for (seen, logits), y in parts:
            asked = self.classifier.classifier.standardised(y)
            if counts is None:
                counts = _kind(asked)(self.num_labels)
            sketch.add(seen, y)
            counts.add(logits, asked)
            # Of classes the answer is all that counts; the others are judged as a whole set.
            if asked.ndim == 1:
                answers.append(agreements(logits, asked))
            else:
                answers.append(logits if asked.is_floating_point() else logits > 0)
            labels.append(asked)
            convinced.append(_conviction(logits, asked))
            taken.append(logits.argmax(1))
        agreed = torch.cat(answers)
        if not isinstance(counts, Confusion):
            agreed = agreements(agreed.float(), torch.cat(labels))
        return Judged(
            sketch=sketch,
            agreement=agreed,
            conviction=torch.cat(convinced),
            taken=torch.cat(taken) if isinstance(counts, Confusion) else None,
            confusion=counts if isinstance(counts, Confusion) else None,
            attributes=counts if isinstance(counts, Attributes) else None,
            numbers=counts if isinstance(counts, Numbers) else None,
        )

    def glance(self, images: Tensor, y: Tensor, heldout: Sketch) -> dict[str, float]:
        """Label agreement and the distance to held-out images, by their names.

        Arguments:
            images: uint8 [N, C, H, W].
            y: What they were asked for, [N] or [N, K].
            heldout: Real images in the eyes of the same extractor.
        """
        return self.in_short(self.judged([(self.look(images), y)]), heldout)

    def readings(self, images: Tensor, y: Tensor, heldout: Sketch) -> dict[str, Reading]:
        """The figures of :meth:`glance` with the intervals that an evaluation gives them."""
        return self.readings_of(self.judged([(self.look(images), y)]), heldout)

    def readings_of(self, judged: Judged, heldout: Sketch) -> dict[str, Reading]:
        """The same of images that have been looked at."""
        values = self.in_short(judged, heldout)

        def of_half(part: Tensor) -> list[float]:
            return [frechet_distance(judged.sketch.part(part).moments, heldout.moments)]

        (span,) = half_samples(of_half, len(judged.agreement), [values[self.distance_name]])
        spans = [of_answers(judged.agreement), Interval(max(0.0, span.low), span.high)]
        return {
            name: Reading(value, interval)
            for (name, value), interval in zip(values.items(), spans, strict=True)
        }

    def in_short(self, judged: Judged, heldout: Sketch) -> dict[str, float]:
        """The figures of :meth:`glance`, of images that have been looked at."""
        return {
            self.agreement_name: judged.agreement.mean().item(),
            self.distance_name: frechet_distance(judged.sketch.moments, heldout.moments),
        }


def images_like(split: Split, y: Tensor) -> Split:
    """Images of a split with the classes ``y``, as far as there are so many; any part is fair.

    With attributes and numbers, as many images as ``y`` has rows.

    Arguments:
        split: Real images, in whatever order they lie in their files.
        y: Classes int64 [N], attributes or numbers [N, K].
    """
    order = shuffled(len(split))
    if y.ndim == 2:
        chosen = order[: len(y)]
    else:
        labels = split.labels.cpu()[order]
        counted = zip(*(u.tolist() for u in y.unique(return_counts=True)), strict=True)
        places = [(labels == k).nonzero().squeeze(1)[:count] for k, count in counted]
        chosen = order[torch.cat(places)]
    return Split(split.images[chosen], split.labels[chosen])


def _kind(y: Tensor) -> type[Confusion] | type[Attributes] | type[Numbers]:
    if y.ndim == 1:
        return Confusion
    return Numbers if y.is_floating_point() else Attributes


def _conviction(logits: Tensor, y: Tensor) -> Tensor:
    if y.ndim == 1:
        return logits.softmax(1).gather(1, y[:, None]).squeeze(1)
    if y.is_floating_point():
        return (-(logits - y).square().nan_to_num().mean(1)).exp()
    signs = y.float() * 2 - 1
    return logsigmoid(signs * logits).mean(1).exp()
