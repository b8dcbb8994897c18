"""Guidance learned in training: its fixed point is the guided field, in closed form."""

import pytest
import torch
from torch import Tensor, nn

from ccdiff.diffusion.conditioning import OneHot
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.guidance import CFG
from ccdiff.diffusion.objectives import Denoising, Draw, ModelGuidance
from ccdiff.diffusion.oracle import LabelledOracle
from ccdiff.diffusion.predictions import Clean, FlowVelocity, Noise, Velocity
from ccdiff.diffusion.schedules import Cosine, Flow
from ccdiff.diffusion.times import UniformTimes
from ccdiff.diffusion.weightings import SNR, Uniform
from ccdiff.errors import UserError

PARTS = {"times": UniformTimes()}
NAMES = ["a", "b", "c"]
POINTS = torch.tensor([-0.9, -0.5, -0.1, 0.2, 0.5, 0.9], dtype=torch.float64).reshape(-1, 1, 1, 1)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


class Exact(nn.Module):
    """A network whose denoiser has the exact estimate guided by a scale, and can be moved off it.

    With the clean image as prediction, ``F`` is the estimate itself.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.oracle = LabelledOracle(points=POINTS, labels=LABELS, std=1e-3)
        self.scale = scale
        self.schedule = Cosine()
        self.moved = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor) -> Tensor:
        told = tokens[:, 0].argmax(1)
        hidden, y = told == len(NAMES), told.clamp(max=len(NAMES) - 1)
        level = self.schedule.at_log_snr(log_snr.double())
        with_label = self.oracle(x, level, y, hidden)
        without = self.oracle(x, level, y, torch.ones_like(hidden))
        return without + self.scale * (with_label - without) + self.moved


def denoiser_of(network: nn.Module, *, drop: float = 0.1) -> Denoiser:
    conditioning = OneHot(NAMES, dim=len(NAMES) + 1, drop=drop)
    with torch.no_grad():
        conditioning.project.weight.copy_(torch.eye(len(NAMES) + 1))
    return Denoiser(network, conditioning=conditioning, prediction=Clean(), schedule=Cosine())


def slope(objective: Denoising, network: Exact, t: float, *, hidden: bool) -> float:
    """The expected loss's derivative off the network's estimate, of a given noisy point of "b"."""
    denoiser = denoiser_of(network)
    level = denoiser.schedule.at(torch.tensor(t, dtype=torch.float64))
    x_t = torch.full((len(POINTS), 1, 1, 1), 0.15, dtype=torch.float64)
    # What it may be of, and how likely: the rule of Bayes.
    logs = -((x_t - level.alpha * POINTS).flatten() ** 2) / (2 * level.sigma**2)
    if not hidden:
        logs = logs.masked_fill(LABELS != 1, -torch.inf)
    eps = (x_t - level.alpha * POINTS) / level.sigma
    draw = Draw(
        torch.full((len(POINTS),), t, dtype=torch.float64),
        eps,
        torch.full((len(POINTS),), hidden),
    )
    losses = objective.at(denoiser, POINTS, torch.ones(len(POINTS), dtype=torch.long), draw)
    (found,) = torch.autograd.grad((logs.softmax(0) * losses).sum(), network.moved)
    return found.item()


@pytest.mark.parametrize("t", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("scale", [1.5, 2.0, 4.0])
def test_what_is_learned_at_best_is_the_guided_estimate(scale, t):
    objective = ModelGuidance(weighting=Uniform(), scale=scale, **PARTS)
    assert slope(objective, Exact(scale), t, hidden=False) == pytest.approx(0, abs=1e-5)
    assert slope(objective, Exact(scale), t, hidden=True) == pytest.approx(0, abs=1e-5)
    # And not that of another scale, nor that of plain denoising.
    for other in (1.0, scale + 0.5):
        assert abs(slope(objective, Exact(other), t, hidden=False)) > 1e-3
    plain = Denoising(weighting=Uniform(), **PARTS)
    assert slope(plain, Exact(1.0), t, hidden=False) == pytest.approx(0, abs=1e-5)
    assert abs(slope(plain, Exact(scale), t, hidden=False)) > 1e-3


def test_one_call_gives_what_guidance_gives_by_two():
    level, y = Cosine().at(torch.tensor(0.5, dtype=torch.float64)), torch.arange(6) % 3
    x_t = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(-1, 1, 1, 1)
    guided = CFG(scale=3.0)(denoiser_of(Exact(1.0)), y)
    torch.testing.assert_close(denoiser_of(Exact(3.0))(x_t, level, y), guided(x_t, level))


def test_a_scale_of_one_is_denoising_bit_for_bit(make_denoiser, generator):
    denoiser = make_denoiser()
    x0, y = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    plain = Denoising(weighting=SNR(), **PARTS)
    none = ModelGuidance(weighting=SNR(), scale=1.0, **PARTS)
    draw = none.draw(denoiser, x0, generator)
    losses = [objective.at(denoiser, x0, y, draw) for objective in (plain, none)]
    assert torch.equal(*losses)


@pytest.mark.parametrize("prediction", [Noise(), Velocity(), FlowVelocity()], ids=repr)
def test_it_is_the_formula_for_any_prediction(make_unet, prediction):
    """In ``x0``: the estimate against the image, moved by what the label says."""
    conditioning = OneHot(["a", "b", "c"], dim=8, drop=0.1)
    denoiser = Denoiser(
        make_unet(), conditioning=conditioning, prediction=prediction, schedule=Flow()
    )
    x0, y, t = torch.randn(6, 1, 8, 8), torch.arange(6) % 3, torch.linspace(0.2, 0.8, 6)
    eps, drop = torch.randn_like(x0), torch.arange(6) > 3
    objective = ModelGuidance(weighting=Uniform(), scale=4.0, **PARTS)
    found = objective.at(denoiser, x0, y, Draw(t, eps, drop))
    level = denoiser.schedule.at(t)
    alpha, sigma = level.scales_like(x0)
    x_t = alpha * x0 + sigma * eps
    told, untold = (denoiser(x_t, level, y, d) for d in (drop, torch.ones_like(drop)))
    expected = (told - x0 - 0.75 * (told - untold)).square().flatten(1).mean(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Of the pull itself no gradient is taken.
    found.sum().backward()
    plain = [p.grad.clone() for p in denoiser.network.parameters()]
    denoiser.zero_grad()
    target = x0 + 0.75 * (told - untold).detach()
    (denoiser(x_t, level, y, drop) - target).square().flatten(1).mean(1).sum().backward()
    for grad, p in zip(plain, denoiser.network.parameters(), strict=True):
        torch.testing.assert_close(grad, p.grad, rtol=1e-3, atol=1e-4)


def test_it_needs_hidden_labels(make_denoiser, generator):
    objective = ModelGuidance(weighting=SNR(), **PARTS)
    with pytest.raises(UserError, match=r"conditioning\.drop=0"):
        objective.draw(make_denoiser(), torch.zeros(2, 1, 8, 8), generator)
    with pytest.raises(ValueError, match=r"objective\.scale must be at least 1"):
        ModelGuidance(weighting=SNR(), scale=0.5, **PARTS)
