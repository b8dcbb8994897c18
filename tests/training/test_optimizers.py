"""Optimizers that do without torch's compiler."""

import functools
import sys

import pytest
import torch
from torch import nn

from ccdiff.config.build import instantiate
from ccdiff.config.options import compose, options
from ccdiff.settings import Shard
from ccdiff.training.ddp import make_optimizer
from ccdiff.training.optimizers import uncompiled


def trained(make) -> tuple[list[torch.Tensor], dict]:
    """Weights and the state after a few steps, with a state that was saved and loaded between."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3, 3, 3), (4,))
    weights = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    optimizer = make(weights)
    for step in range(4):
        optimizer.zero_grad()
        sum((p * (p - step)).square().sum() for p in weights).backward()
        optimizer.step()
        if step == 1:
            optimizer.load_state_dict(optimizer.state_dict())
    return [p.detach() for p in weights], optimizer.state_dict()


@pytest.mark.parametrize("name", options("optimizer"))
def test_steps_are_those_of_torch_and_its_compiler_is_not_imported(name, monkeypatch):
    make = instantiate(compose("train", [f"optimizer={name}"]).optimizer)
    expected, state = trained(make)
    # Importing it fails, and so does what has been imported already.
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    monkeypatch.delattr(torch, "_dynamo", raising=False)
    found, found_state = trained(lambda w: make_optimizer(make, w, shard=Shard.none))
    assert all(map(torch.equal, expected, found))
    assert str(state) == str(found_state)


def test_an_optimizer_stays_what_it_is():
    kind = uncompiled(torch.optim.SGD)
    weights = [nn.Parameter(torch.ones(2))]
    optimizer = kind(weights, lr=0.1)
    assert kind is uncompiled(torch.optim.SGD)
    assert isinstance(optimizer, torch.optim.SGD)
    assert repr(optimizer) == repr(torch.optim.SGD(weights, lr=0.1))
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    weights[0].grad = torch.ones(2)
    assert optimizer.step(lambda: 3.0) == 3.0
    assert torch.equal(weights[0], torch.full((2,), 0.9))
    assert len(seen) == 1


def test_what_somebody_else_has_written_is_theirs():
    def told(method):
        @functools.wraps(method)
        def wrapper(self, *args):
            seen.append(method.__name__)
            return method(self, *args)

        return wrapper

    class Mine(torch.optim.SGD):
        zero_grad = told(torch.optim.SGD.zero_grad)

        @told
        def step(self, closure=None):
            return super().step(closure)

    seen = []
    weights = [nn.Parameter(torch.ones(2))]
    optimizer = uncompiled(functools.partial(Mine, lr=0.1))(weights)
    optimizer.zero_grad()
    optimizer.step()
    assert seen == ["zero_grad", "step"]

    def build(parameters):
        return torch.optim.SGD(parameters)

    assert uncompiled(build) is build
