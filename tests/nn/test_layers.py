"""What the compiler is given for a GPU in place of torch's own operations: the same numbers."""

import pytest
import torch
from parts import awaken
from torch import nn
from torch.autograd import forward_ad
from torch.nn.functional import group_norm, interpolate

from ccdiff.nn import layers
from ccdiff.nn.layers import Downsample, GroupNorm, Upsample

CHANNELS_LAST = torch.channels_last


@pytest.fixture
def spelled_out(monkeypatch):
    """As if the compiler asked, for a GPU."""
    monkeypatch.setattr(layers, "_compiled_for_cuda", lambda x: True)


def images(*shape: int) -> torch.Tensor:
    x = torch.randn(shape, dtype=torch.float64).to(memory_format=CHANNELS_LAST)
    return x.requires_grad_()


def assert_same(found, expected, wanted) -> None:
    """Values and gradients."""
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    along = torch.randn_like(expected)
    gradients = [torch.autograd.grad(y, wanted, along) for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


def test_group_normalisation_is_that_of_torch(spelled_out):
    norm = GroupNorm(4, 16, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = images(3, 16, 5, 7)
    expected = group_norm(x, 4, norm.weight, norm.bias, norm.eps)
    assert_same(norm(x), expected, [x, norm.weight, norm.bias])


def test_doubling_is_that_of_torch(spelled_out):
    x = images(2, 3, 4, 5)
    assert_same(layers._doubled(x), interpolate(x, scale_factor=2.0), [x])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_stay_short_and_lose_no_more_than_rounding(spelled_out, dtype):
    x = images(2, 8, 4, 4).to(dtype)
    norm = GroupNorm(2, 8).to(dtype)
    assert norm(x).dtype == dtype
    expected = group_norm(x.double(), 2)
    torch.testing.assert_close(norm(x).double(), expected, rtol=1e-2, atol=1e-2)


def test_no_convolution_is_handed_channels_that_come_first(spelled_out, make_unet):
    network = awaken(make_unet(skips="concat"))
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    seen = []
    for convolution in convolutions:
        if convolution.kernel_size == (3, 3) and convolution is not network.stem:
            convolution.register_forward_pre_hook(
                lambda _module, given: seen.append(
                    given[0].is_contiguous(memory_format=CHANNELS_LAST)
                )
            )
    x = torch.randn(2, 1, 8, 8)
    network(x, torch.zeros(2), torch.randn(2, 2, 8)).sum().backward()
    assert len(seen) > 10
    assert all(seen)
    assert {Downsample, Upsample} <= {type(m) for m in network.modules()}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated")  # torch's own.
def test_the_derivative_of_group_normalisation_is_taken_forwards_too():
    """Along a direction, against a difference of two outputs."""
    norm = GroupNorm(4, 16, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    x, along = images(3, 16, 5, 7).detach(), images(3, 16, 5, 7).detach()
    with forward_ad.dual_level():
        value, derivative = forward_ad.unpack_dual(norm(forward_ad.make_dual(x, along)))
    torch.testing.assert_close(value, norm(x), rtol=1e-12, atol=1e-12)
    step = 1e-6
    difference = (norm(x + step * along) - norm(x - step * along)) / (2 * step)
    torch.testing.assert_close(derivative, difference, rtol=1e-6, atol=1e-8)
