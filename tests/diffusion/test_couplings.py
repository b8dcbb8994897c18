"""Couplings: cheaper than chance, with every noise used once and none changing its label."""

import math

import pytest
import torch
from parts import concrete

from ccdiff.diffusion.couplings import Coupling, Independent, Optimal

N = 24


def batch(n: int = N):
    """Images, classes, and noises."""
    return torch.randn(n, 1, 4, 4) + 0.5, torch.arange(n) % 3, torch.randn(n, 1, 4, 4)


def cost(x0: torch.Tensor, eps: torch.Tensor) -> float:
    return (x0 - eps).double().square().sum().item()


def order(eps: torch.Tensor, moved: torch.Tensor) -> list[int]:
    """Which noise each image has got; a noise in two places or in none fails."""
    found = [(eps == one).flatten(1).all(1).nonzero().flatten().tolist() for one in moved]
    assert sorted(found) == [[i] for i in range(len(eps))]
    return [i for (i,) in found]


@pytest.mark.parametrize("cls", concrete(Coupling), ids=lambda cls: cls.__name__)
def test_every_noise_is_used_once_and_the_same_each_time(cls):
    x0, y, eps = batch()
    moved = cls()(x0, y, None, eps)
    order(eps, moved)
    torch.randn(7)  # What others draw has no say.
    assert torch.equal(cls()(x0, y, None, eps), moved)


def test_independent_noise_stays_where_it_is():
    x0, y, eps = batch()
    assert Independent()(x0, y, None, eps) is eps


def test_the_optimum_is_that_of_all_orders():
    x0, _, eps = batch(6)
    y = torch.zeros(6, dtype=torch.long)
    least = min(cost(x0, eps[list(p)]) for p in _permutations(6))
    assert math.isclose(cost(x0, Optimal()(x0, y, None, eps)), least, rel_tol=1e-6)


def _permutations(n: int):
    from itertools import permutations

    return permutations(range(n))


def test_transport_is_cheaper_and_cheapest_where_labels_do_not_count():
    x0, y, eps = batch()
    costs = [
        cost(x0, coupling(x0, y, None, eps))
        for coupling in (Optimal(by_label=False), Optimal(), Independent())
    ]
    assert costs[0] < costs[1] < costs[2]


def test_noises_stay_with_their_label():
    x0, y, eps = batch()
    assert torch.equal(y[order(eps, Optimal()(x0, y, None, eps))], y)
    crossing = order(eps, Optimal(by_label=False)(x0, y, None, eps))
    assert not torch.equal(y[crossing], y)


def test_a_hidden_label_is_one_label_more():
    x0, y, eps = batch()
    drop = torch.arange(N) % 4 == 0
    told = y.masked_fill(drop, -1)
    moved = order(eps, Optimal()(x0, y, drop, eps))
    assert torch.equal(told[moved], told)
    assert not torch.equal(y[moved], y)


@pytest.mark.parametrize("single", [False, True])
def test_attributes_exchange_noises_where_all_that_is_told_is_equal(single):
    x0, _, eps = batch()
    y = torch.randint(2, (N, 3), dtype=torch.uint8)
    drop = torch.rand(N, 3) < 0.3 if single else torch.rand(N) < 0.3
    told = y.long().masked_fill(drop if single else drop[:, None], -1)
    moved = order(eps, Optimal()(x0, y, drop, eps))
    assert torch.equal(told[moved], told)
    assert moved != list(range(N))


def test_real_numbers_are_labels_of_their_own():
    x0, _, eps = batch()
    y = torch.linspace(0.1, 0.9, N)
    assert order(eps, Optimal()(x0, y, None, eps)) == list(range(N))


def test_real_numbers_exchange_noises_where_they_are_equal():
    x0, _, eps = batch()
    y = torch.tensor([0.2, -0.7, math.nan]).repeat(N // 3)[:, None]
    told = y.nan_to_num(9.0)
    moved = order(eps, Optimal()(x0, y, None, eps))
    assert torch.equal(told[moved], told)
    assert moved != list(range(N))


def test_the_noise_of_a_label_stays_normal():
    """Were it exchanged between labels, its mean would lean towards the images of the label."""
    means = {}
    for coupling in (Optimal(), Optimal(by_label=False)):
        sums = torch.zeros(2)
        for seed in range(40):
            generator = torch.Generator().manual_seed(seed)
            y = torch.arange(16) % 2
            x0 = torch.randn(16, 1, 2, 2, generator=generator) + 4 * y[:, None, None, None] - 2
            moved = coupling(x0, y, None, torch.randn(16, 1, 2, 2, generator=generator))
            sums += torch.stack([moved[y == k].mean() for k in (0, 1)])
        means[coupling.by_label] = (sums / 40).abs().max().item()
    assert means[True] < 0.1
    assert means[False] > 0.3


def test_straight_paths_cross_less():
    """From each noise to its image: the mean of two paths that cross is neither of them."""
    x0 = torch.cat([torch.full((12, 1, 1, 1), -1.0), torch.full((12, 1, 1, 1), 1.0)])
    eps, y = torch.randn(24, 1, 1, 1), torch.zeros(24, dtype=torch.long)
    moved = Optimal()(x0, y, None, eps)
    sides = [moved[:12].flatten(), moved[12:].flatten()]
    assert sides[0].max() < sides[1].min()
