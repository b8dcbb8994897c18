"""Extractors from files, references that are kept, sketches that stream, figures that compare."""

import json
import os
import pickle
import re
import warnings
from dataclasses import replace
from urllib.error import URLError

import pytest
import torch
from torch import nn

from ccdiff.data import Split
from ccdiff.errors import UserError
from ccdiff.metrics.classifier import Classifier
from ccdiff.metrics.distances import KINDS, class_distances, distances, intervals
from ccdiff.metrics.extractors import ClassifierExtractor, Material, Seen
from ccdiff.metrics.figures import Figure, Provenance, compare
from ccdiff.metrics.frechet import Moments, frechet_distance
from ccdiff.metrics.intervals import Interval
from ccdiff.metrics.local import LocalFile
from ccdiff.metrics.pretrained import DinoV2, Inception
from ccdiff.metrics.references import reference
from ccdiff.metrics.sketch import Sketch


def split(n: int = 12, *, size: int = 8) -> Split:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(256, (n, 1, size, size), generator=generator).to(torch.uint8)
    return Split(images, torch.arange(n) % 3)


@pytest.fixture
def material(tmp_path) -> Material:
    return Material(
        train=split(),
        heldout=split(9),
        num_labels=3,
        flip=False,
        cache=tmp_path / "cache",
        device=torch.device("cpu"),
    )


@pytest.fixture
def classifier() -> Classifier:
    return Classifier((1, 8, 8), num_labels=3).eval()


def test_weights_of_a_classifier_of_this_suite_are_an_extractor(tmp_path, material, classifier):
    path = tmp_path / "kept.pt"
    torch.save({"weights": classifier.state_dict(), "heldout_accuracy": 0.5}, path)
    extractor = LocalFile(file=str(path)).open(material)
    seen = extractor.see(material.train.images)
    torch.testing.assert_close(seen.logits, classifier.logits(material.train.images))
    assert extractor.metric("fd") == "fd_kept"
    assert LocalFile(file=str(path), name="own").open(material).metric("kd") == "kd_own"
    assert extractor.fingerprint == ClassifierExtractor(classifier, scored=True).fingerprint
    other = replace(material, train=split(size=12))
    with pytest.raises(UserError, match="another size than 12 x 12"):
        LocalFile(file=str(path)).open(other)


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("source", [LocalFile, Inception])
def test_a_file_with_code_in_it_is_refused_and_not_run(source, tmp_path, material, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    key = "file" if source is LocalFile else "weights"
    for name in ("evil.pt", "raw.pt"):
        with pytest.raises(UserError, match=name):
            source(**{key: name}).open(material)
    assert not (tmp_path / "evil").exists()


def test_a_network_of_another_kind_is_refused_with_the_way_out(tmp_path, material):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "net.pt")
        torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
        for name in ("net.pt", "weights.pt"):
            with pytest.raises(UserError, match=rf"{name} does not hold .* a class of your own"):
                LocalFile(file=str(tmp_path / name)).open(material)


def test_without_the_extra_it_says_what_to_install(material, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for source in (Inception(), DinoV2()):
        with pytest.raises(UserError, match="--extra metrics"):
            source.open(material)
    with pytest.raises(UserError, match=r"extractor\.size"):
        DinoV2(size="xl")


@pytest.mark.slow
def test_without_a_network_it_says_what_to_do(material, monkeypatch):
    """Slow for its import alone."""
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    def offline(*arguments: object, **settings: object) -> None:
        raise URLError("offline")

    monkeypatch.setattr(theirs, "load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=r"extractor\.weights=<file>"):
        Inception().open(material)


@pytest.mark.slow
def test_inception_gives_figures_their_published_names(tmp_path, material, monkeypatch):
    """With weights as they are drawn: the features mean nothing, but their form is right."""
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    weights = {}
    load = nn.Module.load_state_dict
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *a, **s: weights)
    monkeypatch.setattr(
        nn.Module, "load_state_dict", lambda self, state: load(self, state, strict=False)
    )
    extractor = Inception().open(material)
    seen = extractor.see(material.train.images[:2])
    assert seen.features.shape == (2, 2048)
    assert seen.logits.shape == (2, 1008)
    names = [extractor.metric(kind) for kind in ("fd", "kd", "score", "recall")]
    assert names == ["fid", "kid", "inception_score", "recall_inception"]


def test_a_reference_is_made_once_for_each_data_set_split_and_extractor(
    material, classifier, monkeypatch
):
    extractor = ClassifierExtractor(classifier, scored=True)
    made = []
    see = extractor.see
    monkeypatch.setattr(extractor, "see", lambda images: made.append(len(images)) or see(images))

    def get(images: Split, name: str) -> Sketch:
        return reference(images, extractor, name=name, cache=material.cache)

    first = get(material.train, "train")
    again = get(material.train, "train")
    assert made == [12]
    torch.testing.assert_close(again.moments.covariance, first.moments.covariance)
    assert torch.equal(again.features, first.features)
    assert torch.equal(again.labels, first.labels)
    assert again.score.value == first.score.value
    get(material.train, "heldout")
    get(material.heldout, "train")
    changed = Split(material.train.images.clone(), material.train.labels)
    changed.images[0, 0, 0, 0] ^= 1
    get(changed, "train")
    assert made == [12, 12, 9, 12]
    (path,) = material.cache.rglob(f"{material.heldout.whole_fingerprint()}-*.pt")
    path.write_bytes(b"torn")
    assert get(material.heldout, "train").moments.n == 9
    assert made == [12, 12, 9, 12, 9]


def seen(n: int, *, seed: int = 0) -> Seen:
    generator = torch.Generator().manual_seed(seed)
    return Seen(torch.randn(n, 8, generator=generator), 3 * torch.randn(n, 3, generator=generator))


def sketch(rows: Seen, *, batch: int = 1000) -> Sketch:
    found = Sketch(scored=True)
    y = torch.arange(len(rows.features)) % 3
    for part in torch.arange(len(y)).split(batch):
        found.add(Seen(rows.features[part], rows.logits[part]), y[part])
    return found


def test_streaming_equals_one_batch():
    whole, streamed = sketch(seen(90)), sketch(seen(90), batch=7)
    other = sketch(seen(80, seed=1))
    assert streamed.score.value == pytest.approx(whole.score.value, rel=1e-12)
    assert distances(streamed, other) == pytest.approx(distances(whole, other), rel=1e-9)
    assert torch.equal(streamed.labels, whole.labels)


def test_memory_does_not_grow_with_the_stream(monkeypatch):
    monkeypatch.setattr("ccdiff.metrics.sketch._MOST_NUMBERS", 8 * 20)
    found = sketch(seen(90), batch=7)
    assert torch.equal(found.features, seen(90).features[:20])
    assert len(found.labels) == 20
    assert found.moments.n == 90
    assert found.part(torch.arange(10)).moments.n == 10


def test_real_images_are_chosen_with_the_same_labels():
    real = sketch(seen(90))
    like = real.like(torch.tensor([0, 0, 0, 2]))
    assert like.labels.tolist() == [0, 0, 0, 2]
    assert torch.equal(like.features, real.features[[0, 3, 6, 2]])
    assert len(real.like(torch.ones(50).long()).labels) == 30, "there are no more"
    rows = torch.zeros(5, 3, dtype=torch.uint8)
    assert torch.equal(real.like(rows).features, real.features[:5])


def test_intervals_hold_the_value_and_narrow_with_more_images():
    real = sketch(seen(400, seed=1))
    widths = []
    for n in (40, 360):
        samples = sketch(seen(n))
        values = distances(samples, real)
        spans = intervals(samples, real, values)
        assert all(low <= v <= high for v, (low, high) in zip(values, spans, strict=True))
        widths.append(spans[0].high - spans[0].low)
    assert widths[1] < widths[0] / 2


def test_intervals_hold_no_value_that_a_figure_cannot_have():
    real, samples = sketch(seen(400, seed=1)), sketch(seen(40))
    for edge, end in ((0.0, "low"), (1.0, "high")):
        spans = intervals(samples, real, [edge] * len(KINDS))
        _, kd, precision, recall, density, coverage, _ = (getattr(span, end) for span in spans)
        assert (precision, recall, coverage) == (edge, edge, edge)
        assert kd != edge, "it may be negative, and more than 1"
        assert (density == edge) == (end == "low")


def test_the_distance_of_a_class_is_that_of_its_images_alone():
    samples, real = sketch(seen(90)), sketch(seen(80, seed=1))
    found = class_distances(samples, real, num_classes=4)
    ours, theirs = samples.features[1::3], real.features[1::3]
    expected = frechet_distance(Moments(ours), Moments(theirs))
    assert found[1].item() == pytest.approx(expected)
    assert found[3].isnan(), "nobody asked for it"


FIGURE = Figure(
    name="fd_classifier",
    value=2.0,
    interval=Interval(1.5, 2.5),
    real=0.5,
    provenance=Provenance(n=100, seed=0, sampler="DDIM(steps=5)", steps=5, reference="train"),
)


def test_figures_survive_json():
    assert Figure.parsed(json.loads(json.dumps(FIGURE.plain()))) == FIGURE
    bare = replace(FIGURE, interval=None, real=None)
    assert Figure.parsed(json.loads(json.dumps(bare.plain()))) == bare


def test_figures_of_one_provenance_compare():
    better = replace(FIGURE, value=1.0, interval=Interval(0.8, 1.2))
    assert compare(FIGURE, better) == (-1.0, True)
    close = replace(FIGURE, value=1.8, interval=Interval(1.2, 2.4))
    assert not compare(FIGURE, close).clear
    assert not compare(FIGURE, replace(better, interval=None)).clear


@pytest.mark.parametrize("key", Provenance.__dataclass_fields__)
def test_figures_of_different_provenance_are_refused_by_name(key):
    value = getattr(FIGURE.provenance, key)
    other = 7 if isinstance(value, int) else "other"
    changed = replace(FIGURE, provenance=replace(FIGURE.provenance, **{key: other}))
    with pytest.raises(UserError, match=re.escape(f"{key} ({value} against {other})")):
        compare(FIGURE, changed)
    compare(FIGURE, changed, varying=(key,))


def test_different_figures_and_unknown_parts_are_refused():
    with pytest.raises(UserError, match="different figures"):
        compare(FIGURE, replace(FIGURE, name="kd_classifier"))
    with pytest.raises(UserError, match="stepps"):
        compare(FIGURE, FIGURE, varying=("stepps",))
