"""Networks that are about to be given their weights are made in no time."""

import torch

from ccdiff.nn.unfilled import unfilled


def test_what_has_values_is_filled_as_ever():
    layer = torch.nn.Linear(2, 2)
    with unfilled():
        made = torch.nn.Linear(2, 2)
        torch.nn.init.ones_(layer.weight)
        layer.bias.data.fill_(3)
    assert made.weight.is_meta
    assert layer.weight.tolist() == [[1, 1], [1, 1]]
    assert layer.bias.tolist() == [3, 3]
