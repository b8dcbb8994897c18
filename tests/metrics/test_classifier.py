"""The classifier that judges images: it learns, it is kept, and it is kept for one data set."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ccdiff.data import Digits, Split, to_float
from ccdiff.metrics.agreement import label_agreement
from ccdiff.metrics.classifier import (
    Classifier,
    _shift,
    fingerprint,
    load_classifier,
    train_classifier,
)

DIGITS = [str(i) for i in range(10)]


def load(splits: tuple[Split, Split], cache: Path, *, num_labels: int = 10) -> Classifier:
    return load_classifier(*splits, num_labels=num_labels, flip=False, cache=cache)


def weights(classifier: Classifier) -> Tensor:
    return torch.cat([p.detach().flatten() for p in classifier.parameters()])


@pytest.fixture(scope="module")
def splits() -> tuple[Split, Split]:
    return Digits(image_size=8, channels=1, label_names=DIGITS, flip=False).load()


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(splits, cache) -> Classifier:
    return load(splits, cache)


@pytest.fixture
def few(splits) -> tuple[Split, Split]:
    """So few images that training takes a moment."""
    return splits[0].take(64), splits[1].take(32)


def test_it_learns_digits(digits, splits):
    _, heldout = splits
    right = (digits.logits(heldout.images).argmax(1) == heldout.labels).double().mean().item()
    assert right >= 0.97
    assert digits.heldout_accuracy == right


def test_a_poor_judge_is_said_to_be_one(few, digits, splits, cache, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        load(splits, cache)
        assert "poor judge" not in caplog.text
        train, heldout = few
        load((train, Split(heldout.images, (heldout.labels + 5) % 10)), tmp_path)
    assert "poor judge" in caplog.text


def test_features_are_what_the_logits_are_made_of(digits, splits):
    images = splits[1].images[:20]
    (judgement,) = digits.judge(images)
    torch.testing.assert_close(digits.head(judgement.features), judgement.logits)
    # What one image is taken for has nothing to do with the others.
    torch.testing.assert_close(digits.logits(images[3:4]), judgement.logits[3:4])


def test_kept_weights_are_those_that_were_trained(digits, splits, cache, monkeypatch):
    def never(*arguments: object, **settings: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("ccdiff.metrics.classifier.train_classifier", never)
    again = load(splits, cache)
    assert torch.equal(weights(again), weights(digits))
    assert again.heldout_accuracy == digits.heldout_accuracy
    assert not again.training
    assert [path.suffix for path in (cache / "classifiers").iterdir()] == [".pt"]


def test_training_is_a_function_of_the_data(few):
    torch.manual_seed(1)
    first = train_classifier(few[0], num_labels=10, flip=True)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = train_classifier(few[0], num_labels=10, flip=True)
    assert torch.equal(weights(first), weights(second))
    assert torch.equal(torch.get_rng_state(), state), "it left its mark on the global stream"


def test_anything_else_about_the_data_is_another_fingerprint(few):
    train, heldout = few
    pixel = train.images.clone()
    pixel[5, 0, 3, 3] += 1
    label = train.labels.clone()
    label[5] = (label[5] + 1) % 10
    prints = [
        fingerprint(train, heldout, num_labels=10, flip=False),
        fingerprint(Split(pixel, train.labels), heldout, num_labels=10, flip=False),
        fingerprint(Split(train.images, label), heldout, num_labels=10, flip=False),
        fingerprint(train, heldout.take(31), num_labels=10, flip=False),
        fingerprint(train, heldout, num_labels=11, flip=False),
        fingerprint(train, heldout, num_labels=10, flip=True),
    ]
    assert len(set(prints)) == len(prints)


def test_a_changed_data_set_misses_the_cache(few, tmp_path):
    train, heldout = few
    first = load(few, tmp_path)
    changed = Split(train.images.flip(-1), train.labels)
    second = load((changed, heldout), tmp_path)
    assert len(list((tmp_path / "classifiers").iterdir())) == 2
    assert not torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("damage", ["cut short", "not a file of torch", "other contents"])
def test_a_damaged_file_is_trained_anew(damage, few, tmp_path, caplog):
    first = load(few, tmp_path)
    (path,) = (tmp_path / "classifiers").iterdir()
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "not a file of torch":
        path.write_text("hello")
    else:
        torch.save({"weights": {}, "heldout_accuracy": 1.0}, path)
    with caplog.at_level(logging.WARNING):
        second = load(few, tmp_path)
    assert "damaged" in caplog.text
    assert torch.equal(weights(first), weights(second))
    caplog.clear()
    load(few, tmp_path)
    assert "damaged" not in caplog.text


def test_attributes_are_learned_one_by_one(splits, tmp_path):
    """Even and large digits; binary attributes that no single class decides."""
    bits = [
        Split(split.images, torch.stack([split.labels % 2 == 0, split.labels > 4], 1).byte())
        for split in (splits[0].take(600), splits[1])
    ]
    two = load((bits[0], bits[1]), tmp_path, num_labels=2)
    assert two.heldout_accuracy >= 0.9
    assert two.logits(bits[1].images).shape == (len(bits[1]), 2)


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 256, 256)]
)
def test_every_size_of_image_gives_the_same_kind_of_features(shape):
    features, logits = Classifier(shape, num_labels=3).eval()(torch.zeros(2, *shape))
    assert features.shape == (2, 128)
    assert logits.shape == (2, 3)


def test_agreement_counts_right_labels():
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 1.0], [0.0, 1.0]])
    assert label_agreement(logits, torch.tensor([0, 1, 1, 1])) == 0.75


def test_agreement_counts_attributes_that_were_told():
    logits = torch.tensor([[2.0, -1.0], [1.0, -3.0]])
    y = torch.tensor([[1, 1], [0, 0]], dtype=torch.uint8)
    assert label_agreement(logits, y) == 0.5
    open_ = torch.tensor([[False, True], [False, False]])
    assert label_agreement(logits, y, open_) == pytest.approx((0.5 + 1) / 2)


def test_shifts_move_pixels_and_invent_none(generator):
    images = torch.zeros(200, 1, 16, 16, dtype=torch.uint8)
    images[:, :, 8, 8] = 255
    moved = _shift(images, generator)
    assert moved.shape == images.shape
    assert (moved.flatten(1).sum(1) == 255).all()
    places = moved.flatten(1).argmax(1)
    rows, columns = places // 16, places % 16
    assert set(rows.tolist()) == set(columns.tolist()) == set(range(6, 11))


@pytest.mark.parametrize("shape", [(3, 16, 24), (1, 28, 12), (3, 72, 128)])
def test_rectangles_are_judged(shape):
    classifier = Classifier(shape, num_labels=2).eval()
    assert classifier(torch.zeros(2, *shape)).logits.shape == (2, 2)


def test_floats_that_are_no_points_are_no_images():
    with pytest.raises(ValueError, match="images must be uint8"):
        to_float(torch.rand(2, 1, 8, 8))
