"""Muon against its definition, AdamW's own code, and itself after a checkpoint."""

import copy
from collections.abc import Sequence

import pytest
import torch
from parts import awaken
from torch import nn

from ccdiff.nn import ViT
from ccdiff.training.muon import Muon, orthogonalisers


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(32, 4)
    )
    return layers.to(memory_format=torch.channels_last)


def orthogonalised(matrices: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Each multiplied by its orthogonaliser, from its shorter side."""
    factors = orthogonalisers(matrices)
    return [
        factor @ m if len(m) <= m.shape[1] else m @ factor
        for m, factor in zip(matrices, factors, strict=True)
    ]


def train(network: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int, scale=1.0) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(5, 3, 4, 4, generator=generator)
        (scale * network(x).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("shape", [(3, 8, 40), (2, 40, 8), (2, 9, 9)])
def test_orthogonalised_keeps_singular_vectors_and_levels_singular_values(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ torch.stack(orthogonalised(matrices.unbind())) @ vh.mT
    values = inside.diagonal(dim1=1, dim2=2)
    assert (inside - torch.diag_embed(values)).abs().max() < 1e-3
    well_above_zero = s > 0.02 * s.norm(dim=1, keepdim=True)
    assert well_above_zero.float().mean() > 0.9
    assert values[well_above_zero].min() > 0.6
    assert values[well_above_zero].max() < 1.3


def test_each_is_orthogonalised_by_itself():
    generator = torch.Generator().manual_seed(0)
    matrices = [
        torch.randn(shape, generator=generator) for shape in ((4, 9), (9, 4), (3, 3), (4, 4))
    ]
    for matrix, together in zip(matrices, orthogonalised(matrices), strict=True):
        torch.testing.assert_close(orthogonalised([matrix])[0], together)


def test_orthogonalised_leaves_zero_alone():
    assert not orthogonalised([torch.zeros(4, 6)])[0].any()


def test_all_but_convolutions_step_as_with_adamw():
    settings = {"lr": 1e-2, "betas": (0.8, 0.98), "weight_decay": 0.3}
    ours = nn.Sequential(nn.Linear(48, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    theirs = copy.deepcopy(ours)
    for layers, kind in ((ours, Muon), (theirs, torch.optim.AdamW)):
        train(nn.Sequential(nn.Flatten(), layers), kind(layers.parameters(), **settings), steps=5)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_steps_of_convolutions_are_as_long_whatever_the_scale_of_the_loss():
    ends = []
    for scale in (1.0, 1e4):
        layers = network()
        start = copy.deepcopy(layers.state_dict())
        train(layers, Muon(layers.parameters(), lr=1e-2, weight_decay=0.0), steps=1, scale=scale)
        ends.append({name: layers.state_dict()[name] - start[name] for name in start})
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=1e-6)
    for name in ("0.weight", "2.weight"):
        matrix = ends[0][name].flatten(1)
        assert matrix.square().mean().sqrt().item() == pytest.approx(0.2 * 1e-2, rel=0.25)
        assert (torch.linalg.svdvals(matrix) / (0.2 * 1e-2 * max(matrix.shape) ** 0.5) < 1.3).all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_step_is_that_of_the_gradients_mean_and_one_look_ahead(memory_format):
    weight = nn.Parameter(torch.zeros(4, 3, 3, 2).to(memory_format=memory_format))
    optimizer = Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.0)
    first, second = torch.randn(2, 4, 3, 3, 2, generator=torch.Generator().manual_seed(0))
    for grad in (first, second):
        before = weight.detach().clone()
        weight.grad = grad.clone(memory_format=memory_format)
        optimizer.step()
    mean = 0.9 * 0.1 * first + 0.1 * second
    ahead = (0.1 * second + 0.9 * mean).flatten(1)
    expected = 0.2 * 18**0.5 * 0.1 * orthogonalised([ahead])[0]
    torch.testing.assert_close((before - weight.detach()).flatten(1), expected)


def test_convolutions_of_one_pixel_step_as_with_the_muon_of_torch():
    """Which takes matrices alone, and orthogonalises in bfloat16: hence the tolerance."""
    settings = {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.3}
    theirs = nn.Parameter(torch.randn(24, 40, generator=torch.Generator().manual_seed(0)))
    ours = nn.Parameter(theirs.detach().clone()[..., None, None])
    optimizers = [
        Muon([ours], **settings),
        torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", nesterov=True, **settings),
    ]
    start = theirs.detach().clone()
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        theirs.grad = torch.randn(24, 40, generator=generator)
        ours.grad = theirs.grad.clone()[..., None, None]
        for optimizer in optimizers:
            optimizer.step()
    moved = theirs - start
    assert (ours.flatten(1) - theirs).norm() < 0.03 * moved.norm()


@pytest.mark.parametrize("stacked", [1, 3])
def test_matrices_of_hidden_features_step_as_with_the_muon_of_torch(stacked):
    """Each by itself, where several stand one above the other."""
    settings = {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.3}
    start = torch.randn(stacked, 24, 40, generator=torch.Generator().manual_seed(0))
    theirs = [nn.Parameter(matrix.clone()) for matrix in start]
    ours = nn.Parameter(start.flatten(0, 1).clone())
    ours.hidden_matrices = stacked
    optimizers = [
        Muon([ours], **settings),
        torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", nesterov=True, **settings),
    ]
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        grads = torch.randn(stacked, 24, 40, generator=generator)
        grads[0] *= 100  # Which the others must not come to know.
        ours.grad = grads.flatten(0, 1)
        for p, grad in zip(theirs, grads, strict=True):
            p.grad = grad
        for optimizer in optimizers:
            optimizer.step()
    for matrix, expected, before in zip(ours.chunk(stacked), theirs, start, strict=True):
        assert (matrix - expected).norm() < 0.03 * (expected - before).norm()


def test_it_finds_the_matrices_of_a_transformer():
    network = awaken(ViT(1, token_dim=8, patch=4, width=16, depth=2, head_channels=8))
    optimizer = Muon(network.parameters(), lr=1e-2)
    network(torch.randn(2, 1, 8, 8), torch.zeros(2), torch.randn(2, 1, 8)).sum().backward()
    optimizer.step()
    orthogonal = {n for n, p in network.named_parameters() if "momentum" in optimizer.state[p]}
    layers = ("attention.qkv", "attention.out", "mlp.gate_up", "mlp.down")
    assert orthogonal == {f"blocks.{i}.{name}.weight" for i in range(2) for name in layers}


def test_goes_on_from_its_state():
    whole = network()
    train(whole, Muon(whole.parameters(), lr=1e-2), steps=6)
    parts = network()
    optimizer = Muon(parts.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    for step in range(6):
        if step == 3:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = Muon(parts.parameters(), lr=5.0)
            optimizer.load_state_dict(saved)
        x = torch.randn(5, 3, 4, 4, generator=generator)
        parts(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(whole.state_dict(), parts.state_dict(), rtol=0, atol=0)


def test_weights_decay_by_the_learning_rate_before_they_step():
    start = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    ends = []
    for decay in (0.0, 0.5):
        weight = nn.Parameter(start[0].clone())
        weight.grad = start[1].clone()
        Muon([weight], lr=0.1, weight_decay=decay).step()
        ends.append(weight.detach())
    torch.testing.assert_close(ends[0] - ends[1], 0.5 * 0.1 * start[0])


def test_goes_on_from_a_state_whose_steps_are_numbers():
    """As checkpoints have had them."""
    ends = []
    for number in (False, True):
        layer = nn.Linear(3, 2)
        for p in layer.parameters():
            nn.init.ones_(p)
        optimizer = Muon(layer.parameters(), lr=0.1)
        for i in range(4):
            for j, p in enumerate(layer.parameters()):
                p.grad = torch.full_like(p, (i + 1.0) ** j)
                if number and i == 2:
                    optimizer.state[p]["step"] = int(optimizer.state[p]["step"])
            optimizer.step()
        ends.append(layer.state_dict())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"momentum": 1.0}, {"betas": (0.9, 1.0)}, {"weight_decay": -0.1}]
)
def test_impossible_values_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=f"optimizer.{next(iter(wrong))}"):
        Muon([nn.Parameter(torch.zeros(1))], **wrong)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_step_that_is_left_out_changes_nothing_and_others_are_as_without(memory_format):
    """By the flag that fused optimizers take, so that a GPU need not be waited for."""
    ends = []
    for flagged in (False, True):
        layers = network().to(memory_format=memory_format)
        optimizer = Muon(layers.parameters(), lr=1e-2, weight_decay=0.3)
        train(layers, optimizer, steps=2)
        if flagged:
            optimizer.found_inf = torch.ones(())
            before = copy.deepcopy([layers.state_dict(), optimizer.state_dict()])
            for p in layers.parameters():
                p.grad = torch.full_like(p, torch.nan)
            optimizer.step()
            after = [layers.state_dict(), optimizer.state_dict()]
            torch.testing.assert_close(after, before, rtol=0, atol=0)
            optimizer.zero_grad()
            optimizer.found_inf = torch.zeros(())
        train(layers, optimizer, steps=2)
        ends.append(layers.state_dict())
    torch.testing.assert_close(*ends, rtol=0, atol=0)
