"""Consistency: what agrees with itself along the ODE has no loss, and nothing else has none."""

import pytest
import torch
from torch import Tensor, nn

from ccdiff.diffusion.conditioning import OneHot
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Reach
from ccdiff.diffusion.objectives import Consistency, Denoising, Draw
from ccdiff.diffusion.oracle import FiniteOracle, GaussianOracle
from ccdiff.diffusion.predictions import Clean, Velocity
from ccdiff.diffusion.schedules import Cosine, Flow, Schedule
from ccdiff.diffusion.times import UniformTimes
from ccdiff.diffusion.weightings import SNR, Uniform

PARTS = {"weighting": SNR(), "times": UniformTimes()}


def denoiser_of(network: nn.Module, schedule: Schedule, prediction=None) -> Denoiser:
    return Denoiser(
        network,
        conditioning=OneHot(["a", "b", "c"], dim=8),
        prediction=prediction or Velocity(),
        schedule=schedule,
        reaches=frozenset({Reach.END}),
    )


class Constant(nn.Module):
    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor) -> Tensor:
        return torch.full_like(x, 0.25)


@pytest.mark.parametrize("step", [0, 500, 10**6])
def test_of_a_single_image_the_map_is_that_image(generator, step):
    denoiser = denoiser_of(Constant(), Cosine(), Clean())
    objective = Consistency(**PARTS)
    y = torch.zeros(16).long()
    for value in (0.25, 0.5):
        x0 = torch.full((16, 1, 2, 2), value)
        draw = objective.draw(denoiser, x0, generator, step=step)
        loss = objective.at(denoiser, x0, y, draw)
        assert loss.isfinite().all()
        # One picture for all levels agrees with itself, but where the cleaner one is the image.
        wrong = (draw.toward >= 15) & (value != 0.25)
        assert (loss[~wrong] < 1e-6).all()
        assert (loss[wrong] > 1e-3).all()


def disagreement(oracle: FiniteOracle, step_to: float, *, mean: bool) -> float:
    """By how much ``f`` at a little less noise differs in the mean from ``f``, at one ``x_t``.

    The mean is over the images that may be behind it, each with its own noise.
    """
    schedule, x_t = Flow(), torch.tensor([[0.35]], dtype=torch.float64)
    at = lambda t: schedule.at(torch.tensor(t, dtype=torch.float64))  # noqa: E731
    now, cleaner, end = at(0.6), at(0.6 - step_to), at(0.3)
    points = oracle.points.flatten()
    weights = torch.softmax(-(x_t[0] - now.alpha * points).square() / (2 * now.sigma**2), 0)
    x_r = cleaner.alpha * points + cleaner.sigma * (x_t[0] - now.alpha * points) / now.sigma

    def f(x: Tensor, level) -> Tensor:
        return oracle(x, level) if mean else oracle.ode_map(x, level, end)

    return ((weights @ f(x_r[:, None], cleaner)[:, 0]) - f(x_t, now)[0, 0]).abs().item()


def test_the_map_of_finite_data_agrees_with_itself_to_second_order():
    """What the loss drives at as its levels come together; the mean of the images does not."""
    oracle = FiniteOracle(points=torch.tensor([[-0.8], [0.1], [0.9]], dtype=torch.float64))
    exact = [disagreement(oracle, h, mean=False) for h in (0.04, 0.02, 0.01)]
    assert exact[0] / exact[1] == pytest.approx(4, rel=0.15)
    assert exact[1] / exact[2] == pytest.approx(4, rel=0.1)
    other = [disagreement(oracle, h, mean=True) for h in (0.04, 0.02, 0.01)]
    assert other[1] / other[2] == pytest.approx(2, rel=0.15)


def test_it_begins_near_denoising(make_unet, generator):
    """Where the cleaner level is the end, the loss is that of the image itself."""
    denoiser = denoiser_of(make_unet(), Cosine())
    objective = Consistency(**PARTS)
    x0, y = 2 * torch.rand(64, 1, 8, 8) - 1, torch.arange(64) % 3
    draw = objective.draw(denoiser, x0, generator)
    clean = draw.toward >= Cosine().log_snr(torch.zeros(()))
    assert 5 < clean.sum() < 60
    loss = objective.at(denoiser, x0, y, draw)
    plain = Denoising(**PARTS).at(denoiser, x0, y, draw)
    torch.testing.assert_close(
        loss[clean], ((plain + objective.c**2).sqrt() - objective.c)[clean], rtol=1e-4, atol=1e-5
    )


def test_levels_come_together_from_stage_to_stage(make_unet):
    denoiser = denoiser_of(make_unet(), Cosine())
    objective = Consistency(every=10, stages=3, **PARTS)
    gaps = []
    for step in (0, 9, 10, 20, 10**6):
        draw = objective.draw(
            denoiser, torch.zeros(64, 1, 8, 8), torch.Generator().manual_seed(0), step=step
        )
        log_snr = Cosine().log_snr(draw.t)
        assert (draw.toward > log_snr).all()
        gaps.append((draw.toward.clamp(max=15) - log_snr).mean().item())
    assert gaps[0] == gaps[1] > gaps[2] > gaps[3] == gaps[4]


def test_the_cleaner_estimate_is_taken_as_it_is(make_unet):
    """The gradient is that of the noisier one: the difference times that of ``f(x_t)``."""
    denoiser = denoiser_of(make_unet(), Flow())
    x0, y = 2 * torch.rand(2, 1, 8, 8) - 1, torch.tensor([0, 1])
    draw = Draw(torch.tensor([0.5, 0.7]), torch.randn_like(x0), None, torch.tensor([2.0, 1.0]))
    weight = denoiser.network.stem.weight
    objective = Consistency(weighting=Uniform(), times=UniformTimes(), c=100.0)
    (found,) = torch.autograd.grad(objective.at(denoiser, x0, y, draw).sum(), weight)

    levels = Flow().at(draw.t), Flow().at_log_snr(draw.toward)
    estimates = []
    for level in levels:
        alpha, sigma = level.scales_like(x0)
        estimates.append(denoiser(alpha * x0 + sigma * draw.eps, level, y))
    squared = (estimates[0] - estimates[1].detach()).square().mean((1, 2, 3))
    apart = 1 - levels[1].ratio / levels[0].ratio
    (expected,) = torch.autograd.grad((squared / (2 * objective.c) / apart).sum(), weight)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-6)


class Table(nn.Module):
    """``a(log_snr) x + b(log_snr)``, linear in between, at first a Gaussian's exact denoiser."""

    def __init__(self, oracle: GaussianOracle, schedule: Schedule) -> None:
        super().__init__()
        self.places = torch.linspace(-15, 15, 25)
        level = schedule.at_log_snr(self.places)
        at = oracle(torch.zeros(25, 1), level).flatten()
        gain = oracle(torch.ones(25, 1), level).flatten() - at
        self.a = nn.Parameter((level.alpha - gain) / level.sigma)
        self.b = nn.Parameter(-at / level.sigma)

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor) -> Tensor:
        place = (log_snr + 15) / 30 * (len(self.places) - 1)
        i = place.long().clamp(0, len(self.places) - 2)
        share = (place - i).view(-1, 1, 1, 1)
        i = i.view(-1, 1, 1, 1)
        a, b = (torch.lerp(of[i], of[i + 1], share) for of in (self.a, self.b))
        return a * x + b


def test_training_leads_from_the_exact_denoiser_to_the_end_of_the_ode():
    """Of a Gaussian, where both are known: what is tuned is the map, and not the mean."""
    schedule = Cosine()
    oracle = GaussianOracle(mean=torch.tensor(0.3), std=torch.tensor(0.5))
    denoiser = denoiser_of(Table(oracle, schedule), schedule)
    level = schedule.at_log_snr(torch.linspace(-8, 4, 13).repeat_interleave(64))
    eps = torch.randn(len(level.log_snr), 1, 1, 1)
    alpha, sigma = level.scales_like(eps)
    x_t = 0.3 * alpha + (0.25 * alpha**2 + sigma**2).sqrt() * eps
    exact = oracle.ode_map(x_t, level, schedule.at(torch.tensor(0.0)))

    def missed() -> float:
        with torch.no_grad():
            found = denoiser(x_t, level, torch.zeros(len(x_t)).long())
        return (found - exact).square().mean().sqrt().item()

    before, steps, lr = missed(), 600, 5e-3
    objective = Consistency(every=steps // 4, stages=4, **PARTS)
    optimizer = torch.optim.Adam(denoiser.network.parameters())
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        x0 = 0.3 + 0.5 * torch.randn(256, 1, 1, 1, generator=generator)
        draw = objective.draw(denoiser, x0, generator, step=step)
        loss = objective.at(denoiser, x0, torch.zeros(256).long(), draw).mean()
        optimizer.param_groups[0]["lr"] = lr * min(1, 2 * (1 - step / steps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert before > 0.3
    assert missed() < 0.06
