"""The kit of the benchmarks: what it counts and how it sets one case against another."""

import torch
from torch import nn

from tests.benchmarks.kit import Case, count, interleave, measure_flops, table


def test_operations_are_counted_per_image_forwards_and_backwards():
    layer = nn.Linear(30, 20)
    x = torch.randn(4, 30)
    forward = 2 * 30 * 20
    assert measure_flops(lambda: layer(x), images=4) == forward
    # The gradient of the weight alone, since that of the input is not asked for.
    assert measure_flops(lambda: layer(x).sum().backward(), images=4) == 2 * forward


def test_cases_take_turns_and_warm_up():
    calls = []
    cases = {name: Case(run=lambda name=name: calls.append(name), images=1) for name in "ab"}
    taken = interleave(cases, rounds=2, warmup=1)
    assert "".join(calls) == "baabba"
    assert [len(taken[name]) for name in "ab"] == [2, 2]


def test_ratios_are_taken_round_by_round_and_per_image():
    layer = nn.Linear(9, 1)
    cases = {
        "peer": Case(run=lambda: None, images=10, network=layer, flops=1e9),
        "ours": Case(run=lambda: None, images=20),
    }
    # The machine was twice as slow in the second round.
    lines = table(cases, {"peer": [1.0, 2.0, 1.0], "ours": [0.5, 1.0, 0.5]}).splitlines()
    assert count(layer) == 10
    assert lines[2] == "| peer | 0.00 M | 1.000 | 10.0 | 10 | 1.00 (1.00 to 1.00) |"
    assert lines[3].endswith("| 40.0 |  | 4.00 (4.00 to 4.00) |")
