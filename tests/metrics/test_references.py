"""What stands for real images is never the head of a file, in whatever order the file is."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ccdiff.data import Digits, Split
from ccdiff.metrics.extractors import Extractor, Seen
from ccdiff.metrics.judge import images_like
from ccdiff.metrics.references import asked_labels, reference, shuffled

N = 1200
PARTS = 4


def in_order(order: str) -> Split:
    """Each image is as bright as its place in the file, in quarters; classes lie as ``order``."""
    place = torch.arange(N) * PARTS // N
    images = (60 * place).to(torch.uint8)[:, None, None, None].expand(N, 1, 4, 4).contiguous()
    labels = {
        "sorted": torch.arange(N) * 10 // N,
        "by turns": torch.arange(N) % 10,
        "one": torch.zeros(N, dtype=torch.long),
    }[order]
    return Split(images, labels)


def digits() -> Split:
    """Handwritten digits in the order of their file, where every writer comes in a block."""
    train, _ = Digits(image_size=8, channels=1, flip=False).load()
    place = torch.arange(len(train)) * PARTS // len(train)
    images = (60 * place).to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    return Split(images, train.labels)


SPLITS = {"sorted": lambda: in_order("sorted"), "by turns": lambda: in_order("by turns")}
SPLITS |= {"one class": lambda: in_order("one"), "digits": digits}


class Brightness(Extractor):
    """Sees which quarter of its file an image is from."""

    def __init__(self) -> None:
        super().__init__("brightness", "0", scored=False)

    def see(self, images: Tensor) -> Seen:
        return Seen(images.float().flatten(1)[:, :2], None)


def shares(brightness: Tensor) -> list[float]:
    """Of each quarter of the file."""
    quarters = (brightness.flatten() / 60).round().long()
    return (torch.bincount(quarters, minlength=PARTS) / len(quarters)).tolist()


@pytest.mark.parametrize("name", SPLITS)
def test_any_first_part_of_a_reference_is_of_the_whole_file(name, tmp_path: Path):
    split = SPLITS[name]()
    sketch = reference(split, Brightness(), name="heldout", cache=tmp_path)
    for part in (sketch.part(torch.arange(300)), sketch.like(torch.zeros(60, dtype=torch.long))):
        few = part.features[:, 0]
        # Of a class that lies in one part of the file, there is no other to take.
        if name == "sorted" and len(few) < 300:
            continue
        assert shares(few) == pytest.approx([0.25] * PARTS, abs=0.13)


@pytest.mark.parametrize("name", [name for name in SPLITS if name != "sorted"])
def test_real_images_to_compare_with_are_of_the_whole_file(name):
    split = SPLITS[name]()
    like = images_like(split, split.labels[:200])
    assert shares(like.images[:, 0, 0, 0].float()) == pytest.approx([0.25] * PARTS, abs=0.13)
    counts = [
        labels.bincount(minlength=10).tolist() for labels in (like.labels, split.labels[:200])
    ]
    assert counts[0] == counts[1]


def test_attributes_that_are_asked_for_are_of_the_whole_file():
    bits = (torch.arange(N) * PARTS // N)[:, None] == torch.arange(PARTS)
    split = Split(torch.zeros(N, 1, 4, 4, dtype=torch.uint8), bits.to(torch.uint8))
    asked = asked_labels(split, n=200, num_labels=PARTS)
    assert asked.double().mean(0).tolist() == pytest.approx([0.25] * PARTS, abs=0.1)
    like = images_like(split, asked)
    assert like.labels.double().mean(0).tolist() == pytest.approx([0.25] * PARTS, abs=0.1)


def test_the_order_is_the_same_at_every_call():
    assert torch.equal(shuffled(50), shuffled(50))
    assert sorted(shuffled(50).tolist()) == list(range(50))
