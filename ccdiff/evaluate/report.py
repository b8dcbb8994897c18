"""Everything that an evaluation finds out of a run, and its JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan
from typing import Any

import torch
from torch import Tensor

from ccdiff.data import Split
from ccdiff.metrics.agreement import label_agreement
from ccdiff.metrics.distances import KINDS, class_distances, distances, intervals
from ccdiff.metrics.extractors import Extractor, Material
from ccdiff.metrics.figures import Figure, Provenance
from ccdiff.metrics.intervals import Interval, bootstrap, half_samples, of_answers
from ccdiff.metrics.judge import Judge, Judged
from ccdiff.metrics.label_use import BIN_EDGES, LabelUse, by_level
from ccdiff.metrics.likelihood import Likelihood
from ccdiff.metrics.neighbours import Nearest, copying, nearest
from ccdiff.metrics.plane import ExactClassifier, energy_distance, sliced_wasserstein
from ccdiff.metrics.references import reference, shuffled
from ccdiff.metrics.sketch import Sketch

__all__ = [
    "Real",
    "Report",
    "class_distances_of",
    "model_figures",
    "real_agreement",
    "real_images",
    "sample_figures",
    "seen_by",
]


@dataclass(frozen=True, kw_only=True)
class Real:
    """Real images in the eyes of an extractor.

    Arguments:
        sketch: What they look like.
        fingerprint: Of the images.
    """

    sketch: Sketch
    fingerprint: str


def real_images(material: Material, judge: Judge, fingerprints: dict[str, str]) -> dict[str, Real]:
    """Training and held-out images in the eyes of a judge, under ``train`` and ``heldout``.

    Arguments:
        material: The data set; what is seen in it is kept in its cache.
        judge: Who looks.
        fingerprints: Of the images, by the same names.
    """
    return {
        name: Real(
            sketch=reference(
                split,
                judge.extractor,
                name=name,
                cache=material.cache,
                fingerprint=fingerprints[name],
            ),
            fingerprint=fingerprints[name],
        )
        for name, split in (("train", material.train), ("heldout", material.heldout))
    }


def real_agreement(heldout: Split, judge: Judge, n: int) -> float:
    """The label agreement of ``n`` held-out images, seen as samples are."""
    index = shuffled(len(heldout))[:n]
    logits = judge.classifier.classifier.logits(heldout.images[index])
    asked = judge.classifier.classifier.standardised(heldout.labels[index].cpu())
    return label_agreement(logits, asked)


def sample_figures(
    judged: Judged,
    *,
    real: dict[str, Real],
    real_agreement: float,
    judge: Judge,
    base: Provenance,
) -> tuple[list[Figure], Nearest]:
    """All figures of samples, and which training image each sample is nearest to.

    Arguments:
        judged: The samples.
        real: Under ``train`` and ``heldout``.
        real_agreement: Label agreement of held-out images.
        judge: Who looked at the samples.
        base: What all of these figures depend on.
    """
    extractor = judge.extractor
    found = [
        Figure(
            name=judge.agreement_name,
            value=judged.agreement.mean().item(),
            interval=of_answers(judged.agreement),
            real=real_agreement,
            provenance=seen_by(base, judge.classifier),
        )
    ]
    seen = seen_by(base, extractor)
    for name in real:
        found += _set_figures(judged.sketch, real, name, extractor, seen)
    if isinstance(judge.classifier.classifier, ExactClassifier):
        found += _plane_figures(judged.sketch, real, seen)
    if judged.sketch.score is not None:
        of_real = real["heldout"].sketch.score
        found.append(
            Figure(
                name=extractor.metric("score"),
                value=judged.sketch.score.value,
                real=None if of_real is None else of_real.value,
                provenance=seen,
            )
        )
    train, heldout = real["train"].sketch, real["heldout"].sketch
    near = nearest(judged.sketch.features, train.features)
    of_heldout = nearest(heldout.features[: base.n], train.features).distance
    found.append(
        Figure(
            name=extractor.metric("copying"),
            value=copying(near.distance, of_heldout),
            interval=bootstrap(
                torch.stack([torch.tensor(copying(d[None], of_heldout)) for d in near.distance])
            ),
            real=0.5,
            provenance=_against(seen, "train", real["train"]),
        )
    )
    return found, near


def seen_by(base: Provenance, extractor: Extractor) -> Provenance:
    """The same for figures that an extractor has a part in."""
    return replace(base, extractor=extractor.name, extractor_fingerprint=extractor.fingerprint)


def _against(provenance: Provenance, name: str, real: Real) -> Provenance:
    return replace(provenance, reference=name, data_fingerprint=real.fingerprint)


def _set_figures(
    samples: Sketch, real: dict[str, Real], name: str, extractor: Extractor, seen: Provenance
) -> Iterator[Figure]:
    """Distances of samples to the split ``name``, beside those of images of the other."""
    (other,) = (split.sketch for key, split in real.items() if key != name)
    sketch = real[name].sketch
    values = distances(samples, sketch)
    of_real = distances(other.like(samples.labels), sketch)
    for kind, value, interval, like in zip(
        KINDS, values, intervals(samples, sketch, values), of_real, strict=True
    ):
        if isnan(value):
            continue  # There are too few real images for it.
        yield Figure(
            name=extractor.metric(kind),
            value=value,
            interval=None if isnan(interval.low) else interval,
            real=None if isnan(like) else like,
            provenance=_against(seen, name, real[name]),
        )


def _plane_figures(samples: Sketch, real: dict[str, Real], seen: Provenance) -> Iterator[Figure]:
    """Distances of points to held-out ones, beside those of as many training points."""
    sketch = real["heldout"].sketch
    others = real["train"].sketch.like(samples.labels).features
    measures = {"sliced_wasserstein": sliced_wasserstein, "energy_distance": energy_distance}

    def measured(points: Tensor) -> list[float]:
        return [measure(points, sketch.features) for measure in measures.values()]

    values = measured(samples.features)
    spans = half_samples(
        lambda part: measured(samples.features[part]), len(samples.features), values
    )
    least = Interval(max(0.0, spans[0].low), spans[0].high)
    for name, value, span, of_real in zip(
        measures, values, [least, spans[1]], measured(others), strict=True
    ):
        yield Figure(
            name=name,
            value=value,
            interval=span,
            real=of_real,
            provenance=_against(seen, "heldout", real["heldout"]),
        )


def model_figures(
    use: LabelUse,
    likelihood: Likelihood,
    *,
    excess: Tensor | None,
    base: Provenance,
    steps: int,
) -> list[Figure]:
    """Figures of the model itself on held-out images, without a sample.

    Arguments:
        use: Errors with and without the label.
        likelihood: Of some images, which may be none.
        excess: Squared difference to the exact estimate of ``eps``, where that is known, [N].
        base: What all of these figures depend on.
        steps: Of the integration for the likelihood.
    """
    of_errors = replace(base, n=len(use.told))
    named = {
        "heldout_eps_mse": use.told,
        f"label_gain_{use.against}": use.gain,
        f"label_bits_{use.against}": use.bits,
        **({} if excess is None else {"excess_eps_mse": excess}),
    }
    found = [
        Figure(
            name=name,
            value=values.double().mean().item(),
            interval=bootstrap(values),
            provenance=of_errors,
        )
        for name, values in named.items()
    ]
    if len(likelihood.values):
        precise = replace(base, n=len(likelihood.values), steps=steps, precision="fp32")
        found.append(
            Figure(
                name=likelihood.name,
                value=likelihood.values.mean().item(),
                interval=bootstrap(likelihood.values),
                real=likelihood.exact,
                provenance=precise,
            )
        )
        error = Figure(name=f"{likelihood.name}_error", value=likelihood.error, provenance=precise)
        found.append(error)
    return found


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found.

    Arguments:
        title: Names the run.
        facts: Of the run and of how it was evaluated, for a reader.
        figures: All numbers.
        label_names: Of classes or attributes.
        y: What each sample was asked for, [N] or [N, K].
        judged: The samples.
        class_distances: Fréchet distance of each class to training images, [K]; None for
            attributes.
        near: Which training image each sample is nearest to.
        use: Of the label; None where there are samples and no model.
    """

    title: str
    facts: dict[str, str]
    figures: Sequence[Figure]
    label_names: Sequence[str]
    y: Tensor
    judged: Judged
    class_distances: Tensor | None
    near: Nearest
    use: LabelUse | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON, where what is not a number is null."""
        return _finite(
            {
                "title": self.title,
                "facts": self.facts,
                "label_blind": None if self.use is None else self.use.blind,
                "label_certainty": None if self.use is None else self.use.certainty,
                "figures": [figure.plain() for figure in self.figures],
                "classes": self._classes(),
                "attributes": self._attributes(),
                "numbers": self._numbers(),
                "confusion": None
                if self.judged.confusion is None
                else self.judged.confusion.counts.tolist(),
                "levels": self._levels(),
            }
        )

    def _classes(self) -> list[dict[str, Any]]:
        if self.judged.confusion is None or self.class_distances is None:
            return []
        return [
            {"name": name, "n": n, "agreement": agreement, "fd": distance}
            for name, n, agreement, distance in zip(
                self.label_names,
                self.judged.confusion.counts.sum(1).tolist(),
                self.judged.confusion.per_class.tolist(),
                self.class_distances.tolist(),
                strict=True,
            )
        ]

    def _attributes(self) -> list[dict[str, Any]]:
        if self.judged.attributes is None:
            return []
        scores = zip(self.label_names, self.judged.attributes.scores, strict=True)
        return [{"name": name, **score._asdict()} for name, score in scores]

    def _numbers(self) -> list[dict[str, Any]]:
        if self.judged.numbers is None:
            return []
        scores = zip(self.label_names, self.judged.numbers.scores, strict=True)
        return [{"name": name, **score._asdict()} for name, score in scores]

    def _levels(self) -> list[dict[str, float]]:
        if self.use is None:
            return []
        columns = [by_level(u).tolist() for u in (self.use.told, self.use.other, self.use.gain)]
        rows = zip(BIN_EDGES, BIN_EDGES[1:], *columns, strict=False)
        return [
            {"low": low, "high": high, "told": told, self.use.against: other, "gain": gain}
            for low, high, told, other, gain in rows
        ]


def class_distances_of(judged: Judged, real: Real, *, num_classes: int) -> Tensor | None:
    """The Fréchet distance of each class; None for attributes."""
    if judged.confusion is None:
        return None
    return class_distances(judged.sketch, real.sketch, num_classes=num_classes)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
