"""Batches are the same wherever images are held, and as balanced as asked for."""

import threading
import time
from math import sqrt
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
import torch

from ccdiff.data import Batches, ImageRows, Split, batches
from ccdiff.data.balance import balanced_order, weights_for
from ccdiff.errors import UserError

NUM, SHAPE = 23, (3, 4, 4)


@pytest.fixture
def split(tmp_path) -> Split:
    """Random images that lie in a file, after others; labels are their numbers."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (NUM + 5, *SHAPE), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="c")
    rows = ImageRows(tmp_path / "images.npy", offset=mapped.offset, shape=SHAPE).after(5)
    return Split(torch.from_numpy(mapped)[5:], torch.arange(NUM), rows)


@pytest.mark.parametrize("balance", ["none", "class"])
@pytest.mark.parametrize("placement", ["auto", "device", "memory", "disk"])
def test_placement_changes_no_batch(split, placement, balance, monkeypatch):
    monkeypatch.setattr(batches, "_COPY_BYTES", 100)
    held = Batches(split, batch_size=7, seed=3, placement=placement, balance=balance)
    for i in (0, 1, 2, 3, 4, 20, 2, 5):
        images, labels = held.batch(i)
        assert images.shape == (7, *SHAPE)
        assert images.dtype == torch.uint8
        assert torch.equal(labels, held.indices(i))
        assert torch.equal(images, split.images[labels])


def test_batches_may_be_changed_without_harm(split):
    for placement in ("device", "disk"):
        held = Batches(split, batch_size=7, seed=3, placement=placement)
        before = held.batch(0)[0].clone()
        held.batch(0)[0].zero_()
        assert torch.equal(held.batch(0)[0], before)


def test_reading_runs_ahead_of_asking(split, monkeypatch):
    read = Queue()
    original = ImageRows.read

    def noting(self, index, out):
        original(self, index, out)
        read.put(threading.current_thread() is threading.main_thread())

    monkeypatch.setattr(ImageRows, "read", noting)
    held = Batches(split, batch_size=7, seed=3, placement="disk")
    held.batch(0)
    by_whom = [read.get(timeout=60) for _ in range(1 + batches._NUM_AHEAD)]
    held.batch(1)
    held.batch(2)
    by_whom += [read.get(timeout=60) for _ in range(2)]
    # Nothing is read twice, and nothing by the one who asks.
    time.sleep(0.05)
    assert read.empty()
    assert not any(by_whom)


def test_what_goes_wrong_ahead_is_raised_when_it_is_asked_for(split):
    held = Batches(split, batch_size=7, seed=3, placement="disk")
    split.rows.path.write_bytes(b"")
    with pytest.raises(UserError, match="was cut short"):
        held.batch(0)


def test_threads_end_with_the_batches(split):
    # By name rather than by number: those of the tests before may be ending just now.
    before = set(threading.enumerate())
    held = Batches(split, batch_size=7, seed=3, placement="disk")
    held.batch(0)
    started = set(threading.enumerate()) - before
    assert started
    del held
    for thread in started:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in started)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux' memory maps")
def test_images_on_disk_take_no_memory(tmp_path):
    shape = (1, 256, 256)
    np.save(tmp_path / "images.npy", np.ones((64, *shape), np.uint8))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="c")
    rows = ImageRows(tmp_path / "images.npy", offset=mapped.offset, shape=shape)
    split = Split(torch.from_numpy(mapped), torch.zeros(64).long(), rows)

    def resident() -> int:
        """KiB of the file that count as memory of this process."""
        lines = iter(Path("/proc/self/smaps").read_text().splitlines())
        return sum(
            int(next(line for line in lines if line.startswith("Rss:")).split()[1])
            for header in lines
            if header.endswith(str(tmp_path / "images.npy"))
        )

    held = Batches(split, batch_size=8, seed=0, placement="disk")
    for i in range(20):
        assert held.batch(i)[0].all()
    assert resident() < 512
    # The measure has teeth: the map itself does count.
    assert split.images.all()
    assert resident() > 3500


def test_auto_takes_the_device_where_images_fit_and_else_leaves_them(split, monkeypatch):
    in_memory = Split(split.images.clone(), split.labels)
    assert Batches(split, batch_size=7, seed=3).placement == "device"
    monkeypatch.setattr(batches, "_room", lambda device: split.images.numel() - 1)
    assert Batches(split, batch_size=7, seed=3).placement == "disk"
    # What is in memory already stays there, which is the device here.
    assert Batches(in_memory, batch_size=7, seed=3).placement == "device"
    assert torch.equal(
        Batches(in_memory, batch_size=7, seed=3).batch(1)[0],
        Batches(split, batch_size=7, seed=3).batch(1)[0],
    )


def test_room_is_a_share_of_what_there_is():
    assert 2**24 < batches._room(torch.device("cpu")) < 2**45


def test_processes_of_a_machine_share_its_memory_and_not_its_gpus(monkeypatch):
    monkeypatch.setattr(batches, "free_bytes", lambda device: 64.0)
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert (batches._room(cpu), batches._room(gpu)) == (16, 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert (batches._room(cpu), batches._room(gpu)) == (4, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"placement": "cloud"}, r"data\.placement must be one of .*'cloud'"),
        ({"placement": "disk"}, r"data\.placement=disk is for sets of image files"),
        ({"balance": "fair"}, r"data\.balance must be none, sqrt or class, got 'fair'"),
    ],
)
def test_what_cannot_be_is_refused(split, options, message):
    with pytest.raises(UserError, match=message):
        Batches(Split(split.images.clone(), split.labels), batch_size=7, seed=3, **options)


CLASSES = torch.tensor([0] * 600 + [1] * 90 + [2] * 10)


@pytest.mark.parametrize(("balance", "power"), [("class", 0), ("sqrt", 0.5)])
def test_classes_are_drawn_as_often_as_asked(balance, power):
    sizes = CLASSES.bincount().double()
    expected = len(CLASSES) * sizes**power / (sizes**power).sum()
    weights = weights_for(CLASSES, balance)
    for epoch in range(5):
        drawn = balanced_order(weights, 0, epoch)
        assert drawn.shape == CLASSES.shape
        # Each image comes as often as its weight says, rounded up or down.
        times = drawn.bincount(minlength=len(CLASSES))
        wanted = len(CLASSES) * weights
        assert (times >= (wanted - 1e-6).floor()).all()
        assert (times <= (wanted + 1e-6).ceil()).all()
    many = torch.cat([balanced_order(weights, 0, epoch) for epoch in range(100)])
    share = CLASSES[many].bincount().double() / 100
    assert torch.allclose(share, expected, rtol=0.02)


def test_balance_of_no_kind_draws_every_image_once(split):
    assert weights_for(CLASSES, "none") is None
    held = Batches(split, batch_size=NUM, seed=0)
    assert torch.equal(held.indices(0).sort().values, torch.arange(NUM))


def test_draws_of_an_image_are_uniform_over_the_epoch_and_its_neighbours():
    # Neither the position in the epoch nor who is drawn more often may depend on the number.
    weights = weights_for(CLASSES, "class")
    drawn = torch.stack([balanced_order(weights, 1, epoch) for epoch in range(400)])
    n = len(CLASSES)
    rare = CLASSES[drawn] == 2
    by_half = rare[:, : n // 2].sum(), rare[:, n // 2 :].sum()
    total = float(sum(by_half))
    assert abs(float(by_half[0]) - total / 2) < 5 * sqrt(total) / 2
    common = drawn[CLASSES[drawn] == 0].bincount(minlength=600)[:600].double()
    assert abs(float(common[:300].sum() / common.sum()) - 0.5) < 0.02


def test_an_image_counts_as_its_rarest_attribute():
    labels = torch.zeros(1000, 3, dtype=torch.uint8)
    labels[:500, 0] = 1  # half
    labels[:20, 1] = 1  # rare
    labels[10:990, 2] = 1  # rarely absent, in 10 of the rare ones and 10 others
    weights = weights_for(labels, "class")
    groups = weights[0], weights[15], weights[500], weights[995]
    # The smallest groups that they share a value with have 20, 20, 500 and 20 images.
    assert torch.allclose(
        torch.stack(groups) / weights[500], torch.tensor([25.0, 25, 1, 25]).double()
    )
    times = balanced_order(weights, 0, 0).bincount(minlength=1000)
    assert times[:20].sum() > 5 * 20


def test_two_attributes_values_are_two_classes():
    for balance in ("class", "sqrt"):
        bits = (CLASSES == 1).to(torch.uint8)
        assert torch.equal(
            weights_for(bits.unsqueeze(1), balance), weights_for(bits.long(), balance)
        )


def test_an_attribute_that_all_images_have_says_nothing():
    bits = (CLASSES == 1).to(torch.uint8)
    both = torch.stack([bits, torch.ones_like(bits)], dim=1)
    assert torch.equal(weights_for(both, "class"), weights_for(bits.unsqueeze(1), "class"))


def test_balanced_batches_are_functions_of_seed_and_number(split):
    labels = torch.tensor([0] * 20 + [1] * 3)
    split = Split(split.images.clone(), labels)
    one, other = (Batches(split, batch_size=4, seed=5, balance="class") for _ in range(2))
    forwards = [one.indices(i) for i in range(40)]
    torch.rand(3)  # the global stream has no say
    backwards = [other.indices(i) for i in reversed(range(40))]
    assert all(torch.equal(*pair) for pair in zip(forwards, reversed(backwards), strict=True))
    unlike = Batches(split, batch_size=4, seed=6, balance="class")
    assert any(not torch.equal(forwards[i], unlike.indices(i)) for i in range(40))
    assert not torch.equal(
        balanced_order(weights_for(labels, "class"), 5, 0),
        balanced_order(weights_for(labels, "class"), 5, 1),
    )


def test_two_values_of_one_seed_give_unrelated_orders():
    weights = weights_for(CLASSES, "class")
    one, other = (balanced_order(weights, seed, 0) for seed in (0, 1))
    assert float((one == other).double().mean()) < 0.2
