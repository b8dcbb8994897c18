"""What holds for every network that the package has."""

import inspect

import pytest
import torch
from parts import awaken
from torch import nn

import ccdiff.nn
from ccdiff.diffusion.conditioning import OneHot

SETTINGS = {
    "MLP": {"width": 16, "depth": 2},
    "UNet": {
        "channels": [8, 16],
        "bottleneck": 16,
        "attention": [False, True],
        "groups": 4,
        "head_channels": 8,
    },
    "ViT": {"patch": 4, "width": 16, "depth": 2, "bottleneck": 8, "head_channels": 8},
}
"""Small ones."""


@pytest.fixture(params=ccdiff.nn.__all__)
def make_network(request):
    """Builds a small network of a class, awake; a class without settings above fails."""

    def make(
        channels: int = 1, *, size=(8, 8), asleep: bool = False, interval: bool = False
    ) -> nn.Module:
        cls = getattr(ccdiff.nn, request.param)
        settings = {"token_dim": 8, **SETTINGS[request.param]}
        if "image_size" in inspect.signature(cls).parameters:
            settings["image_size"] = size
        if interval:
            if "interval" not in inspect.signature(cls).parameters:
                pytest.skip(f"{request.param} is told of one noise level")
            settings["interval"] = True
        network = cls(channels, **settings)
        return network if asleep else awaken(network)

    return make


def inputs(*shape: int, tokens: int = 2):
    n = shape[0]
    return torch.randn(shape), torch.linspace(-5, 5, n), torch.randn(n, tokens, 8)


@pytest.mark.parametrize(
    "size", [(8, 8), (28, 28), (1, 1), (7, 7), (9, 30)], ids=lambda size: f"{size}"
)
def test_images_of_any_size_keep_their_shape(make_network, size):
    x, log_snr, tokens = inputs(2, 3, *size)
    output = make_network(3, size=size)(x, log_snr, tokens)
    assert output.shape == x.shape
    assert output.isfinite().all()
    assert output.flatten(1).any(1).all()


def test_a_new_network_returns_exactly_zero(make_network):
    network = make_network(asleep=True)
    batch = inputs(2, 1, 8, 8)
    assert not network(*batch).any()
    assert awaken(network)(*batch).any()


def test_every_parameter_has_a_part_in_the_output(make_network):
    network = make_network()
    network(*inputs(2, 1, 8, 8)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_the_noise_level_and_the_label_change_the_output(make_network):
    network = make_network()
    x, log_snr, tokens = inputs(2, 1, 8, 8)
    output = network(x, log_snr, tokens)
    for other in (network(x, log_snr + 1, tokens), network(x, log_snr, tokens + 1)):
        assert not torch.allclose(other, output, rtol=0.01, atol=0.001)


def test_a_sample_does_not_depend_on_the_others(make_network):
    network = make_network()
    x, log_snr, tokens = inputs(4, 1, 8, 8)
    together = network(x, log_snr, tokens)
    alone = network(x[2:3], log_snr[2:3], tokens[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "atol"),
    [(torch.float16, 0.02), (torch.bfloat16, 0.15), (torch.float64, 1e-4)],
    ids=str,
)
def test_it_works_in_other_types_of_numbers(make_network, make_denoiser, dtype, atol):
    """The network, and all that stands around it; both ways."""
    denoiser = make_denoiser(
        make_network(size=(9, 8)), conditioning=OneHot(["a", "b", "c"], dim=8)
    )
    x, y = torch.randn(2, 1, 9, 8), torch.tensor([0, 2])
    level = denoiser.schedule.at(torch.tensor([0.3, 0.6]))
    expected = denoiser(x, level, y)
    output = denoiser.to(dtype)(x.to(dtype), level, y)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), expected, rtol=0.05, atol=atol)
    output.float().square().mean().backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == dtype, name


def test_noise_levels_are_as_exact_as_the_numbers(make_network):
    """In float64 a small change of the level shows that float32 would not know of."""
    network = make_network().double()
    x, log_snr, tokens = (part.double() for part in inputs(1, 1, 8, 8))
    assert not torch.equal(network(x, log_snr, tokens), network(x, log_snr + 1e-10, tokens))


def test_autocast_changes_little(make_network):
    network = make_network(size=(9, 8))
    batch = inputs(2, 1, 9, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(*batch)
    torch.testing.assert_close(output.float(), network(*batch), rtol=0.05, atol=0.1)


@pytest.mark.slow
def test_it_is_one_graph_for_a_compiler(make_network):
    network = make_network(size=(9, 8))
    batch = inputs(2, 1, 9, 8)
    whole = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(*batch), network(*batch))


def test_a_network_that_is_told_a_second_level_begins_as_one_that_is_not(make_network):
    """Weights of a denoiser are a start; then the second level has a part in the output."""
    torch.manual_seed(1)
    plain = make_network(asleep=True)
    torch.manual_seed(1)
    told = make_network(asleep=True, interval=True)
    assert told.interval
    shared = plain.state_dict()
    assert all(told.state_dict()[name].equal(value) for name, value in shared.items())
    awaken(plain)
    told.load_state_dict({**told.state_dict(), **plain.state_dict()})
    x, log_snr, tokens = inputs(2, 1, 8, 8)
    assert told(x, log_snr, tokens, log_snr + 4).equal(plain(x, log_snr, tokens))
    awaken(told)
    assert not torch.allclose(told(x, log_snr, tokens, log_snr + 4), told(x, log_snr, tokens))
    assert told(x, log_snr, tokens, log_snr).equal(told(x, log_snr, tokens))
