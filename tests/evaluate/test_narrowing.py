"""Samples that lost variety pass for better ones, unless the spread of features is read beside."""

import pytest
import torch

from ccdiff.evaluate.narrowing import narrowings
from ccdiff.metrics.distances import KINDS, distances, intervals
from ccdiff.metrics.extractors import Seen
from ccdiff.metrics.figures import Figure, Provenance
from ccdiff.metrics.intervals import Interval
from ccdiff.metrics.sketch import Sketch

FEATURES = 256


def sketch(seed: int, *, scale: float = 1.0, n: int = 400) -> Sketch:
    generator = torch.Generator().manual_seed(seed)
    found = Sketch()
    features = scale * torch.randn(n, FEATURES, generator=generator)
    found.add(Seen(features, None), torch.zeros(n, dtype=torch.long))
    return found


def figures(samples: Sketch) -> list[Figure]:
    real, other = sketch(1), sketch(2)
    values = distances(samples, real)
    of_real = distances(other, real)
    provenance = Provenance(n=400, extractor="net", reference="heldout")
    return [
        Figure(name=f"{kind}_net", value=v, interval=i, real=r, provenance=provenance)
        for kind, v, i, r in zip(
            KINDS, values, intervals(samples, real, values), of_real, strict=True
        )
    ]


@pytest.fixture(scope="module")
def faithful() -> list[Figure]:
    return figures(sketch(3))


@pytest.fixture(scope="module")
def shrunk() -> list[Figure]:
    """By 5 % towards the mean."""
    return figures(sketch(3, scale=0.95))


def named(found: list[Figure], kind: str) -> Figure:
    (figure,) = [figure for figure in found if figure.name == f"{kind}_net"]
    return figure


def test_precision_and_density_rise_as_samples_shrink(faithful, shrunk):
    for kind in ("precision", "density", "coverage"):
        assert named(shrunk, kind).value > named(faithful, kind).value
    assert named(shrunk, "recall").value < named(faithful, "recall").value
    assert named(faithful, "spread_ratio").value == pytest.approx(1, abs=0.01)
    assert named(shrunk, "spread_ratio").value == pytest.approx(0.95, abs=0.01)


def test_it_is_said_and_only_then(faithful, shrunk):
    assert narrowings(faithful) == []
    (told,) = narrowings(shrunk)
    assert "precision_net" in told
    assert "have lost variety" in told
    assert "compared with heldout" in told
    assert narrowings(figures(sketch(3, scale=1.05))) == [], "more spread is no loss of variety"


def test_against_an_earlier_evaluation_it_is_said_too(faithful, shrunk):
    told = narrowings([], list(zip(faithful, shrunk, strict=True)))
    assert len(told) == 1
    assert (
        "fell from 1 to 0.95" in told[0]
        or "fell from 0.99" in told[0]
        or "fell from 1.0" in told[0]
    )
    assert narrowings([], list(zip(shrunk, faithful, strict=True))) == []


def test_what_has_no_interval_says_nothing():
    bare = Provenance(n=4, extractor="net", reference="train")
    spread = Figure(name="spread_ratio_net", value=0.5, real=1.0, provenance=bare)
    precision = Figure(
        name="precision_net", value=1.0, interval=Interval(1, 1), real=0.5, provenance=bare
    )
    assert narrowings([spread, precision]) == []
