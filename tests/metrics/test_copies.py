"""Samples that are training images over again."""

import math

import pytest
import torch

from ccdiff.metrics.copies import Copies, copied, count_copies


def noise(n: int, *, seed: int, side: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 1, side, side), dtype=torch.uint8, generator=generator)


def test_copies_are_found_and_new_images_are_not():
    train = noise(300, seed=0)
    near = (train[:5].int() + noise(5, seed=1).int() // 32 - 4).clamp(0, 255).to(torch.uint8)
    new = noise(20, seed=2)
    assert copied(torch.cat([near, new]), train).tolist() == [True] * 5 + [False] * 20
    assert copied(train[290:], train).all(), "in whichever block they are"


def test_a_mean_of_two_images_is_no_copy():
    train = noise(50, seed=0)
    between = ((train[:1].int() + train[1:2].int()) // 2).to(torch.uint8)
    assert not copied(between, train).any()


def test_large_images_are_looked_at_in_small():
    train = noise(4, seed=0, side=4).repeat_interleave(16, 2).repeat_interleave(16, 3)
    shifted = train[:1].roll(1, dims=-1)
    assert copied(torch.cat([train, shifted]), train).all()


def test_counts_are_of_both():
    train, heldout = noise(30, seed=0), noise(12, seed=1)
    found = count_copies(torch.cat([train[:3], noise(7, seed=2)]), heldout, train)
    assert found == Copies(samples=3, of_samples=10, heldout=0, of_heldout=12)
    assert found.share == 0.3
    assert found.share_heldout == 0.0


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ((0, 200, 0, 200), False),
        ((5, 200, 0, 200), False),
        ((12, 200, 0, 200), True),
        ((12, 200, 8, 200), False),
        ((60, 200, 8, 200), True),
        ((200, 200, 0, 20), True),
        ((3, 20, 0, 2), False),
        ((200, 200, 20, 20), False),
    ],
)
def test_a_share_is_told_that_chance_does_not_explain(counts, told):
    assert Copies(*counts).unexplained is told


def test_chance_is_that_of_fishers_test():
    from scipy.stats import fisher_exact

    for counts in ((9, 60, 1, 40), (10, 60, 0, 40), (17, 60, 0, 40), (4, 9, 1, 40)):
        samples, n, heldout, m = counts
        table = [[samples, n - samples], [heldout, m - heldout]]
        chance = fisher_exact(table, alternative="greater").pvalue
        assert Copies(*counts).chance == pytest.approx(chance, rel=1e-9)
        assert not math.isnan(chance)
