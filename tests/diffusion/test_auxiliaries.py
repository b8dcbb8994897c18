"""What is added to an objective: against its formula, and nothing where there is none."""

from dataclasses import replace

import pytest
import torch
from parts import awaken

from ccdiff.diffusion.auxiliaries import (
    Contrastive,
    Dispersive,
    NoAuxiliary,
    next_of_another_label,
)
from ccdiff.diffusion.conditioning import MultiHot
from ccdiff.diffusion.objectives import Consistency, Denoising
from ccdiff.diffusion.predictions import FlowVelocity
from ccdiff.diffusion.schedules import Flow
from ccdiff.diffusion.times import UniformTimes
from ccdiff.diffusion.weightings import SNR, FlowWeighting
from ccdiff.errors import UserError
from ccdiff.nn import UNet, ViT

BASE = Denoising(weighting=SNR(), times=UniformTimes())


def batch(denoiser, n: int = 6, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x0, y = torch.randn(n, 1, 8, 8, generator=generator), torch.arange(n) % 3
    return x0, y, BASE.draw(denoiser, x0, generator)


def added(auxiliary, denoiser, x0, y, draw) -> torch.Tensor:
    objective = auxiliary.added_to(BASE)
    return objective.at(denoiser, x0, y, draw) - BASE.at(denoiser, x0, y, draw)


def test_nothing_is_added_by_none():
    assert NoAuxiliary().added_to(BASE) is BASE


@pytest.mark.parametrize("auxiliary", [Contrastive(), Dispersive()], ids=repr)
def test_what_is_drawn_and_where_training_looks_stay_the_same(auxiliary, make_denoiser):
    denoiser, joint = make_denoiser(), auxiliary.added_to(BASE)
    x0 = torch.empty(4, 1, 8, 8)
    draws = [o.draw(denoiser, x0, torch.Generator().manual_seed(0)) for o in (BASE, joint)]
    for one, other in zip(*draws, strict=True):
        assert one is other is None or torch.equal(one, other)
    assert (joint.weighting, joint.times) == (BASE.weighting, BASE.times)


@pytest.mark.parametrize("auxiliary", [Contrastive(weight=0.0), Dispersive(weight=0.0)], ids=repr)
def test_a_weight_of_zero_adds_zero(auxiliary, make_denoiser):
    denoiser = make_denoiser()
    assert not added(auxiliary, denoiser, *batch(denoiser)).any()


@pytest.mark.parametrize("auxiliary", [Contrastive(), Dispersive()], ids=repr)
def test_one_image_has_nothing_to_differ_from(auxiliary, make_denoiser):
    denoiser = make_denoiser()
    torch.testing.assert_close(added(auxiliary, denoiser, *batch(denoiser, 1)), torch.zeros(1))


def test_contrast_is_its_formula(make_denoiser, prediction):
    denoiser = make_denoiser(prediction=prediction)
    x0, y, draw = batch(denoiser)
    found = added(Contrastive(weight=0.3), denoiser, x0, y, draw)
    level = denoiser.schedule.at(draw.t)
    alpha, sigma = level.scales_like(x0)
    output = denoiser.output(alpha * x0 + sigma * draw.eps, level, y, draw.drop)
    for i in range(6):
        j = (i + 1) % 6  # Labels are 0, 1, 2, 0, 1, 2.
        target = prediction.target(x0[j], draw.eps[j], alpha[i], sigma[i])
        c_out = prediction.coefficients(alpha[i], sigma[i]).c_out.flatten()
        error = level.log_snr[i].exp() * c_out.square() * (output[i] - target).square().mean()
        torch.testing.assert_close(found[i : i + 1], -0.3 * error, rtol=1e-3, atol=1e-5)


def test_flow_matching_is_contrasted_as_in_the_paper(make_denoiser):
    """|v - (eps - x)|^2 - lambda |v - (eps_j - x_j)|^2, whatever the level."""
    denoiser = make_denoiser(prediction=FlowVelocity(), schedule=Flow())
    x0, y, draw = batch(denoiser)
    base = Denoising(weighting=FlowWeighting(), times=UniformTimes())
    level = denoiser.schedule.at(draw.t)
    alpha, sigma = level.scales_like(x0)
    v = denoiser.output(alpha * x0 + sigma * draw.eps, level, y, draw.drop)
    velocity = draw.eps - x0
    expected = (v - velocity).square() - 0.05 * (v - velocity.roll(-1, 0)).square()
    found = Contrastive(weight=0.05).added_to(base).at(denoiser, x0, y, draw)
    torch.testing.assert_close(found, expected.flatten(1).mean(1), rtol=1e-3, atol=1e-4)


def test_what_contrast_teaches_moves_away_from_the_mean_of_other_labels(make_denoiser):
    """The best output is the root of its gradient, here found in closed form."""
    denoiser = make_denoiser()
    x0, y, draw = batch(denoiser, 3)
    level = denoiser.schedule.at(draw.t)
    target = denoiser.prediction.target(x0, draw.eps, *level.scales_like(x0))
    other = denoiser.prediction.target(
        x0.roll(-1, 0), draw.eps.roll(-1, 0), *level.scales_like(x0)
    )
    best = ((target - 0.2 * other) / 0.8).requires_grad_()
    auxiliary = Contrastive(weight=0.2)
    c_out = denoiser.coefficients(x0, level).c_out.flatten()
    base = (best - target).square().flatten(1).mean(1) * level.log_snr.exp() * c_out.square()
    (base + auxiliary.loss(best, BASE, denoiser, x0, y, draw)).sum().backward()
    torch.testing.assert_close(best.grad, torch.zeros_like(best), rtol=0, atol=1e-5)


def test_a_hidden_label_is_not_contrasted(make_denoiser):
    denoiser = make_denoiser()
    x0, y, draw = batch(denoiser)
    drop = torch.tensor([True, False, False, True, False, False])
    found = added(Contrastive(), denoiser, x0, y, draw._replace(drop=drop))
    assert (found == 0).tolist() == drop.tolist()


def test_the_next_of_another_label_is_found_around_the_end():
    y = torch.tensor([0, 0, 1, 0])
    other, found = next_of_another_label(y, None)
    assert other.tolist() == [2, 2, 3, 2]
    assert found.tolist() == [1, 1, 1, 1]
    assert next_of_another_label(torch.zeros(3), None)[1].tolist() == [0, 0, 0]


def test_attributes_differ_where_they_are_told():
    y = torch.tensor([[0, 1], [0, 0], [1, 1]], dtype=torch.uint8)
    assert next_of_another_label(y, None)[0].tolist() == [1, 2, 0]
    hidden = torch.tensor([[False, True], [False, False], [True, True]])
    other, found = next_of_another_label(y, hidden)
    assert found.tolist() == [1, 1, 0]
    assert other.tolist()[:2] == [2, 2]


def test_contrast_takes_attributes(make_denoiser):
    denoiser = make_denoiser(conditioning=MultiHot(["a", "b", "c"], dim=8))
    x0, _, draw = batch(denoiser)
    y = torch.eye(3, dtype=torch.uint8).repeat(2, 1)
    assert (added(Contrastive(), denoiser, x0, y, draw._replace(drop=None)) < 0).all()


@pytest.mark.parametrize("kind", [UNet, ViT])
def test_dispersion_is_its_formula(make_denoiser, make_unet, kind):
    network = make_unet()
    if kind is ViT:
        settings = {"token_dim": 8, "patch": 4, "width": 16, "depth": 8, "head_channels": 8}
        network = awaken(ViT(1, **settings))
    denoiser = make_denoiser(network)
    x0, y, draw = batch(denoiser)
    seen = []
    watched = {"UNet": "middle_in", "ViT": "blocks.1"}[kind.__name__]
    handle = network.get_submodule(watched).register_forward_hook(lambda *a: seen.append(a[2]))
    BASE.at(denoiser, x0, y, draw)
    handle.remove()
    z = seen[0].flatten(1)
    pairs = [(-(a - b).square().mean() / 0.7).exp() for a in z for b in z]
    expected = 0.2 * torch.stack(pairs).mean().log()
    found = added(Dispersive(weight=0.2, temperature=0.7), denoiser, x0, y, draw)
    torch.testing.assert_close(found, expected.expand(6), rtol=1e-3, atol=1e-4)


def test_dispersion_moves_features_apart(make_denoiser):
    denoiser = make_denoiser()
    x0, y, draw = batch(denoiser)
    auxiliary = Dispersive(weight=1.0)
    optimizer = torch.optim.SGD(denoiser.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        with auxiliary.watching(denoiser) as seen:
            BASE.at(denoiser, x0, y, draw)
        loss = auxiliary.loss(seen[-1], BASE, denoiser, x0, y, draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.001


@pytest.mark.parametrize("auxiliary", [Contrastive(), Dispersive()], ids=repr)
def test_objectives_that_teach_steps_are_refused(auxiliary):
    with pytest.raises(UserError, match=r"not for Consistency.*use auxiliary=none"):
        auxiliary.added_to(Consistency(weighting=SNR(), times=UniformTimes()))
    assert auxiliary.added_to(BASE).reaches == BASE.reaches


def test_nothing_is_left_on_the_network(make_denoiser):
    denoiser = make_denoiser()
    x0, y, draw = batch(denoiser)
    for auxiliary in (Dispersive(), Contrastive()):
        auxiliary.added_to(BASE).at(denoiser, x0, y, draw)
    assert not any(module._forward_hooks for module in denoiser.modules())
    assert denoiser._outputs is None


def test_a_layer_that_is_not_there_is_told(make_denoiser):
    denoiser = make_denoiser()
    x0, y, draw = batch(denoiser)
    with pytest.raises(UserError, match=r"auxiliary\.layer.*got 'middle'; there are embed"):
        Dispersive(layer="middle").added_to(BASE).at(denoiser, x0, y, draw)


@pytest.mark.parametrize(
    ("auxiliary", "wrong"),
    [
        (Contrastive(), {"weight": 1.0}),
        (Contrastive(), {"weight": -0.1}),
        (Dispersive(), {"weight": -1.0}),
        (Dispersive(), {"temperature": 0.0}),
    ],
    ids=repr,
)
def test_impossible_values_are_refused_by_name(auxiliary, wrong):
    with pytest.raises(ValueError, match=f"auxiliary.{next(iter(wrong))}"):
        replace(auxiliary, **wrong)
