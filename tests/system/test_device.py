"""What a device is set to."""

import pytest
import torch

from ccdiff.system.device import set_determinism


@pytest.fixture(autouse=True)
def put_back():
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.backends.cudnn.benchmark = before[1]


@pytest.mark.parametrize(
    ("wanted", "steps", "tried"),
    [(False, 200, False), (False, 200_000, True), (True, 200, False), (True, 200_000, False)],
)
def test_only_a_long_training_has_algorithms_tried_and_no_deterministic_one(wanted, steps, tried):
    set_determinism(wanted, steps=steps)
    assert torch.backends.cudnn.benchmark == tried
    assert torch.are_deterministic_algorithms_enabled() == wanted
