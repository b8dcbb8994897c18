import sys
from math import sqrt

import pytest
import torch

from ccdiff.data import Batches, DataSet, Digits, Split, augment, order, to_float, to_uint8
from ccdiff.data.core import limited
from ccdiff.errors import UserError
from ccdiff.seeding import generator_for, seed_for

NAMES = [str(digit) for digit in range(10)]


DIGITS = [str(digit) for digit in range(10)]


def numbered(n: int) -> Split:
    """Images that show their number, with their number as the label."""
    labels = torch.arange(n)
    return Split(labels.to(torch.uint8).reshape(n, 1, 1, 1).expand(n, 1, 2, 2), labels)


def digits(**facts) -> Digits:
    stated = {"image_size": 8, "channels": 1, "label_names": NAMES, "flip": False}
    return Digits(**{**stated, **facts})


@pytest.fixture(scope="module")
def splits() -> tuple[Split, Split]:
    return digits().load()


def test_digits_are_read_as_scikit_learn_reads_them(splits, monkeypatch):
    monkeypatch.setattr("ccdiff.data.digits._FILE", "moved away")
    for ours, theirs in zip(splits, digits().load(), strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)


def test_digits_are_read_without_importing_scikit_learn(monkeypatch):
    for module in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    assert len(digits().load()[0]) == 1621


def test_the_order_is_a_pure_function_of_seed_and_epoch():
    first = order(50, 7, 3).clone()
    order.cache_clear()
    torch.rand(5)  # the global stream has no say
    assert torch.equal(order(50, 7, 3), first)
    assert torch.equal(first.sort().values, torch.arange(50))
    for other in (order(50, 8, 3), order(50, 7, 4)):
        assert not torch.equal(other, first)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 23, 64])
def test_every_image_comes_once_an_epoch(batch_size):
    n, epochs = 10, 7 * batch_size
    batches = Batches(numbered(n), batch_size=batch_size, seed=0)
    drawn = torch.cat([batches.indices(i) for i in range(n * epochs // batch_size)])
    assert len(drawn) == n * epochs  # batches straddle the ends of epochs and drop nothing
    for epoch, part in enumerate(drawn.split(n)):
        assert torch.equal(part, order(n, 0, epoch))


def test_a_batch_is_a_function_of_the_seed_and_its_number():
    split = numbered(10)
    one, other = (Batches(split, batch_size=4, seed=5) for _ in range(2))
    forwards = [one.indices(i) for i in range(12)]
    backwards = [other.indices(i) for i in reversed(range(12))]
    assert all(torch.equal(*pair) for pair in zip(forwards, reversed(backwards), strict=True))
    unlike = Batches(split, batch_size=4, seed=6)
    assert any(not torch.equal(forwards[i], unlike.indices(i)) for i in range(12))


def test_images_keep_their_labels():
    batches = Batches(numbered(10), batch_size=4, seed=0)
    for i in (0, 1, 2, 7):
        images, labels = batches.batch(i)
        assert images.shape == (4, 1, 2, 2)
        assert images.dtype == torch.uint8
        assert torch.equal(labels, batches.indices(i))
        assert torch.equal(images[:, 0, 0, 0].long(), labels)


def test_floats_span_minus_one_to_one_and_round_trip():
    levels = torch.arange(256, dtype=torch.uint8)
    x = to_float(levels)
    assert x.dtype == torch.float32
    assert x.aminmax() == (-1, 1)
    assert (x.diff() > 0).all()
    assert torch.equal(to_uint8(x), levels)
    # To the nearest level from anywhere between two, and never beyond the ends.
    assert torch.equal(to_uint8(x + 0.49 / 127.5), levels)
    assert torch.equal(to_uint8(x - 0.49 / 127.5), levels)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_half_of_the_images_are_mirrored(generator):
    n = 10_000
    images = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 2, 2).expand(n, 1, 2, 2)
    augmented = augment(images, generator)
    mirrored = (augmented == images.flip(-1)).flatten(1).all(1)
    untouched = (augmented == images).flatten(1).all(1)
    assert (mirrored ^ untouched).all()
    assert abs(float(mirrored.double().mean()) - 0.5) < 5 * 0.5 / sqrt(n)
    assert torch.equal(augmented, augment(images, torch.Generator().manual_seed(0)))


def test_a_split_takes_images_evenly():
    split = numbered(10)
    assert split.take(5).labels.tolist() == [0, 2, 4, 6, 8]
    assert torch.equal(split.take(5).images[:, 0, 0, 0].long(), split.take(5).labels)
    assert len(split.take(99)) == 10
    assert len(split.take(0)) == 0


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2), "uint8"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2), r"\(2, 4, 4\)"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3), "2 images but 3 labels"),
    ],
)
def test_a_split_that_cannot_be_is_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Split(images, labels)


def test_the_digits_are_all_there(splits):
    train, heldout = splits
    assert (len(train), len(heldout)) == (1621, 176)
    for split in splits:
        assert split.images.shape[1:] == (1, 8, 8)
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert split.images.aminmax() == (0, 255)
        assert (split.labels.bincount(minlength=10) > len(split) / 20).all()


def test_a_digit_has_the_label_it_shows(splits):
    # The nearest class mean reads nine of ten held-out digits: images and labels belong together.
    train, heldout = (Split(s.images, s.labels) for s in splits)
    means = torch.stack([to_float(train.images[train.labels == k]).mean(0) for k in range(10)])
    distances = torch.cdist(to_float(heldout.images).flatten(1), means.flatten(1))
    assert (distances.argmin(1) == heldout.labels).float().mean() > 0.85


def test_images_that_are_not_as_stated_are_refused_with_both():
    with pytest.raises(UserError, match=r"\(1, 8, 8\).*data\.channels=3 data\.image_size=32"):
        digits(channels=3, image_size=32).load()


def test_a_data_set_states_its_facts_without_loading():
    class Unreadable(DataSet):
        def read(self):
            raise AssertionError("read too early")

    data = Unreadable(image_size=32, channels=3, label_names=["cat", "dog"], flip=True)
    assert data.image_shape == (3, 32, 32)
    assert data.names == ("cat", "dog")
    assert data.flip


def test_seeds_are_functions_of_their_purpose():
    assert seed_for(1, "order", 2) == seed_for(1, "order", 2)
    parts = [
        (1, "order", 2),
        (1, "order", 3),
        (2, "order", 2),
        (1, "step", 2),
        (1, "order"),
        ("1", "order"),
    ]
    seeds = {seed_for(*some) for some in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # The same on every machine, or a run could not be continued on another one.
    assert seed_for(0, "order", 0) == 2094333682667709378


def test_generators_of_one_purpose_agree_and_share_nothing():
    one, same, other = (generator_for(0, name) for name in ("a", "a", "b"))
    assert torch.equal(torch.randn(5, generator=one), torch.randn(5, generator=same))
    assert not torch.equal(torch.randn(5, generator=one), torch.randn(5, generator=other))


def test_a_part_of_the_images_is_the_same_each_time_and_lies_in_a_larger_one():
    whole, heldout = Digits(image_size=8, channels=1, flip=False, label_names=DIGITS).load()
    parts = {}
    for n in (7, 30, 100):
        data = Digits(image_size=8, channels=1, flip=False, label_names=DIGITS, limit=n)
        train, held = data.load()
        assert torch.equal(held.images, heldout.images)
        counts = train.count_labels(10)
        assert counts.sum() == n == len(train)
        assert counts.max() - counts.min() <= 1
        parts[n] = {image.numpy().tobytes() for image in train.images}
    assert parts[7] < parts[30] < parts[100]
    everything = Digits(
        image_size=8, channels=1, flip=False, label_names=DIGITS, limit=len(whole)
    ).load()[0]
    assert torch.equal(everything.images, whole.images)


def test_attributes_are_limited_too():
    images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1)
    bits = (torch.arange(40)[:, None] // torch.tensor([1, 2]) % 2).to(torch.uint8)
    few, more = (limited(Split(images, bits), n) for n in (5, 9))
    assert len(few) == 5
    assert set(few.images.flatten().tolist()) < set(more.images.flatten().tolist())
    assert torch.equal(more.labels, bits[more.images.flatten().long()])


@pytest.mark.parametrize(
    ("limit", "told"), [(0, "at least 1, got 0"), (5000, "there are 1621 training images")]
)
def test_impossible_limits_are_refused(limit, told):
    with pytest.raises(UserError, match=told):
        Digits(image_size=8, channels=1, flip=False, label_names=DIGITS, limit=limit).load()
