"""What a device is set to."""

import pytest
import torch

from ccdiff.errors import UserError
from ccdiff.settings import Compile, Precision
from ccdiff.system.device import (
    autocast_dtype,
    compile_mode,
    device_name,
    free_bytes,
    pick_device,
    set_determinism,
)


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


@pytest.fixture
def mac(monkeypatch) -> torch.device:
    """The GPU of a Mac, as far as it can be played: what is chosen for it, nothing computed."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 << 30)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 2 << 30)
    return pick_device("mps")


def test_the_gpu_of_a_mac_is_taken_by_its_name(mac):
    assert mac.type == "mps"
    assert pick_device("auto").type != "mps"
    assert device_name(mac) == "mps (GPU of a Mac)"
    assert free_bytes(mac) == 10 << 30


def test_on_a_mac_float32_and_no_compiler_are_what_auto_means(mac):
    assert autocast_dtype(Precision.auto, mac) is None
    assert autocast_dtype(Precision.bf16, mac) is torch.bfloat16
    assert compile_mode(Compile.auto, mac) is None
    # The fused optimizers of conf/ have kernels there, and autocast knows it.
    from torch.utils._foreach_utils import _get_fused_kernels_supported_devices

    assert "mps" in _get_fused_kernels_supported_devices()
    assert torch.amp.autocast_mode.is_autocast_available("mps")


@pytest.mark.parametrize(
    ("name", "told"),
    [("mps", "no GPU of a Mac"), ("tpu", "cuda:<n> or mps"), ("meta", "cuda:<n> or mps")],
)
def test_devices_that_are_not_there_are_refused(name, told, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=told):
        pick_device(name)
