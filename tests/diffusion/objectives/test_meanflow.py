"""Average velocities: the derivative, the exact solution, and what is left at equal times."""

import pytest
import torch
from parts import awaken
from torch import Tensor, nn

from ccdiff.diffusion.conditioning import OneHot
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Reach
from ccdiff.diffusion.objectives import Denoising, Draw, MeanFlow
from ccdiff.diffusion.objectives.meanflow import along_the_path
from ccdiff.diffusion.oracle import FiniteOracle, GaussianOracle
from ccdiff.diffusion.predictions import Clean, FlowVelocity, Velocity
from ccdiff.diffusion.samplers import GivenNoise, MeanFlowSampler, UniPC, sample
from ccdiff.diffusion.samplers.grids import LogSNR
from ccdiff.diffusion.schedules import Cosine, Flow, Schedule
from ccdiff.diffusion.times import UniformTimes
from ccdiff.diffusion.weightings import SNR, FlowWeighting, Uniform
from ccdiff.errors import UserError
from ccdiff.nn import UNet


def denoiser_of(network: nn.Module, *, schedule: Schedule, prediction=None, drop=0.0) -> Denoiser:
    return Denoiser(
        network,
        conditioning=OneHot(["a", "b", "c"], dim=8, drop=drop),
        prediction=prediction or Clean(),
        schedule=schedule,
        reaches=frozenset(Reach),
    )


@pytest.fixture
def in_double(monkeypatch):
    """Networks take noise levels in single precision, which is too coarse to look closely."""
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.get_default_dtype().to_real())
    monkeypatch.undo()
    torch.set_default_dtype(torch.float32)


def batch(n: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    x0 = 2 * torch.rand(n, 1, 8, 8) - 1
    return x0, torch.randn_like(x0), torch.arange(n) % 3


@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=repr)
@pytest.mark.parametrize("prediction", [Velocity(), FlowVelocity()], ids=repr)
def test_the_forward_derivative_is_that_of_differences(in_double, make_unet, schedule, prediction):
    """Through convolutions, norms and both kinds of attention."""
    network = make_unet(interval=True)
    denoiser = denoiser_of(network, schedule=schedule, prediction=prediction)
    x0, eps, y = batch(3)
    level = schedule.at(torch.tensor([0.2, 0.5, 0.9]))
    after = schedule.at(torch.tensor([0.1, 0.2, 0.0]))
    alpha, sigma = level.scales_like(x0)
    x_t = alpha * x0 + sigma * eps
    estimate, derivative = along_the_path(denoiser, x_t, x0, level=level, after=after, y=y)
    assert not estimate.requires_grad
    assert not derivative.requires_grad

    def moved(share: float) -> Tensor:
        """The estimate where ``tau`` is larger by a share of itself."""
        tau = (1 + share) * level.sigma / (level.alpha + level.sigma)
        there = schedule.at_log_snr(2 * ((1 - tau) / tau).log())
        z = x_t / (alpha + sigma)
        z = z + share * (z - x0)
        alpha_there, sigma_there = there.scales_like(x0)
        return denoiser((alpha_there + sigma_there) * z, there.leading_to(after), y)

    with torch.no_grad():
        torch.testing.assert_close(estimate, moved(0.0), rtol=0, atol=1e-12)
        differences = (moved(1e-6) - moved(-1e-6)) / 2e-6
    assert derivative.abs().max() > 0.1
    torch.testing.assert_close(derivative, differences, rtol=1e-5, atol=1e-5)


class OfAnOracle(nn.Module):
    """A network whose estimates are an oracle's, under ``prediction=clean``."""

    interval = True

    def __init__(self, oracle, schedule: Schedule) -> None:
        super().__init__()
        self.oracle, self.schedule = oracle, schedule

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor, toward: Tensor) -> Tensor:
        level = self.schedule.at_log_snr(log_snr)
        alpha, sigma = level.scales_like(x)
        x_t = x / Clean().coefficients(alpha, sigma).c_in
        return self.oracle(x_t, level.leading_to(self.schedule.at_log_snr(toward)))


@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=repr)
def test_the_average_velocity_of_a_gaussian_is_a_solution(in_double, schedule):
    """Where an image is the mean of those behind its noisy one, the target is the estimate."""
    n = 64
    level = schedule.at(torch.rand(n) * 0.5 + 0.5)
    after = schedule.at(level.t * torch.rand(n))
    x_t = torch.randn(n, 1, 2, 2)
    errors = {}
    for std in (0.5, 0.6):
        exact = GaussianOracle(mean=torch.tensor(0.3), std=torch.tensor(0.5))
        learned = GaussianOracle(mean=torch.tensor(0.3), std=torch.tensor(std))
        denoiser = denoiser_of(OfAnOracle(learned, schedule), schedule=schedule)
        alpha, sigma = level.scales_like(x_t)
        x0 = exact(x_t, level)
        eps = (x_t - alpha * x0) / sigma
        ahead = torch.ones(n, dtype=torch.bool)
        draw = Draw(level.t, eps, None, after.log_snr, ahead)
        objective = MeanFlow(weighting=Uniform(), times=UniformTimes(), power=0)
        errors[std] = objective.at(denoiser, x0, torch.zeros(n).long(), draw).sqrt().max().item()
    assert errors[0.5] < 1e-6
    assert errors[0.6] > 1e-2


@pytest.mark.parametrize(("schedule", "steps"), [(Cosine(), 1), (Flow(), 3)], ids=repr)
def test_few_steps_end_where_the_ode_does(schedule, steps):
    eps = torch.randn(16, 2, dtype=torch.float64)
    points = torch.tensor([[-0.6, -0.3], [0.6, -0.3], [0.0, 0.7]], dtype=torch.float64)
    mean, std = (torch.tensor(value, dtype=torch.float64) for value in (0.3, 0.5))
    fine = UniPC(steps=600, grid=LogSNR(sigma_max=1e9, sigma_min=1e-9))
    finite = FiniteOracle(points=points, std=0.3)
    for oracle, close in ((GaussianOracle(mean=mean, std=std), 1e-9), (finite, 1e-4)):
        few = sample(MeanFlowSampler(steps=steps), oracle, schedule, eps.shape, GivenNoise(eps))
        if isinstance(oracle, GaussianOracle):
            ends = [schedule.at(torch.tensor(t, dtype=torch.float64)) for t in (1.0, 0.0)]
            exact = oracle.ode_map(ends[0].std * eps, *ends)
        else:
            exact = sample(fine, oracle, schedule, eps.shape, GivenNoise(eps))
        torch.testing.assert_close(few, exact, rtol=0, atol=close)


def test_at_equal_times_the_loss_is_that_of_flow_matching(make_unet, prediction):
    schedule = Flow()
    denoiser = denoiser_of(make_unet(interval=True), schedule=schedule, prediction=prediction)
    x0, eps, y = batch()
    t = torch.linspace(0.1, 0.9, len(x0))
    draw = Draw(t, eps, None, schedule.log_snr(t), torch.zeros(len(x0), dtype=torch.bool))
    parts = {"weighting": FlowWeighting(), "times": UniformTimes()}
    matching = Denoising(**parts).at(denoiser, x0, y, draw)
    torch.testing.assert_close(MeanFlow(power=0, **parts).at(denoiser, x0, y, draw), matching)
    robust = MeanFlow(power=1, **parts).at(denoiser, x0, y, draw)
    torch.testing.assert_close(robust, matching / (matching + 1e-3))
    if isinstance(prediction, FlowVelocity):
        alpha, sigma = schedule.at(t).scales_like(x0)
        velocity = denoiser.output(alpha * x0 + sigma * eps, schedule.at(t), y)
        plain = (velocity - (eps - x0)).square().mean((1, 2, 3))
        torch.testing.assert_close(matching, plain)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_so_many_images_look_ahead(make_unet, generator, share):
    denoiser = denoiser_of(make_unet(interval=True), schedule=Cosine())
    objective = MeanFlow(weighting=SNR(), times=UniformTimes(), share=share)
    x0, _, y = batch(8)
    draw = objective.draw(denoiser, x0, generator)
    log_snr = Cosine().log_snr(draw.t)
    assert draw.ahead.sum() == 8 * share
    assert (draw.toward[draw.ahead] > log_snr[draw.ahead]).all()
    assert draw.toward[~draw.ahead].equal(log_snr[~draw.ahead])
    whole = objective.at(denoiser, x0, y, draw)
    pieces = [
        objective.at(denoiser, x0[rows], y[rows], draw.part(rows))
        for rows in (slice(0, 3), slice(3, 4), slice(4, 8))
    ]
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=1e-3, atol=1e-5)


class Said(nn.Module):
    """A network that returns what its tokens say, in every pixel."""

    interval = True

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor, toward: Tensor) -> Tensor:
        return tokens[:, 0, :1, None, None].expand_as(x)


def test_guidance_that_is_learned_is_that_of_two_calls():
    """The solution of the loss is the reference and w times the way from it to the image."""
    x0, hidden, w = torch.full((3, 1, 2, 2), 0.5), 0.1, 3.0
    denoiser = denoiser_of(Said(), schedule=Cosine(), drop=0.1)
    objective = MeanFlow(weighting=Uniform(), times=UniformTimes(), guidance=w, power=0)
    y = torch.arange(3)
    draw = Draw(torch.full((3,), 0.5), torch.randn_like(x0), torch.zeros(3, dtype=torch.bool))
    with torch.no_grad():
        table = denoiser.conditioning.project.weight.zero_()
        table[0, 3] = hidden
        table[0, :3] = hidden + w * (0.5 - hidden)
        assert objective.at(denoiser, x0, y, draw).max() < 1e-10
        table[0, :3] = 0.5
        assert objective.at(denoiser, x0, y, draw).min() > 1e-2


def test_guidance_needs_a_hidden_label(make_unet, generator):
    denoiser = denoiser_of(make_unet(interval=True), schedule=Cosine())
    objective = MeanFlow(weighting=SNR(), times=UniformTimes(), guidance=2.0)
    with pytest.raises(UserError, match=r"conditioning\.drop=0\.1"):
        objective.draw(denoiser, batch()[0], generator)


def test_a_network_must_be_told_both_levels(make_unet):
    with pytest.raises(UserError, match=r"model\.interval=true"):
        denoiser_of(make_unet(), schedule=Cosine())


def test_a_network_that_is_told_begins_as_one_that_is_not():
    """So a trained denoiser's weights are a start."""
    settings = {
        **{"token_dim": 8, "channels": [8, 16], "bottleneck": 16, "attention": [False, True]},
        **{"head_channels": 8, "groups": 4, "embed_dim": 16},
    }
    torch.manual_seed(1)
    plain = UNet(1, **settings)
    torch.manual_seed(1)
    told = UNet(1, interval=True, **settings)
    shared = plain.state_dict()
    assert all(told.state_dict()[name].equal(value) for name, value in shared.items())
    for network in (plain, told):
        torch.manual_seed(2)
        nn.init.normal_(network.out.weight)
    x, log_snr, tokens = torch.randn(2, 1, 8, 8), torch.tensor([-2.0, 3.0]), torch.randn(2, 1, 8)
    same = plain(x, log_snr, tokens)
    assert told(x, log_snr, tokens, log_snr + 4).equal(same)
    awaken(told)
    assert not torch.allclose(told(x, log_snr, tokens, log_snr + 4), told(x, log_snr, tokens))


def test_dropout_is_the_same_in_both_estimates(make_unet):
    """With one level the two are one estimate, whatever is dropped."""
    denoiser = denoiser_of(make_unet(interval=True, dropout=0.5), schedule=Flow()).train()
    x0, eps, y = batch()
    t = torch.full((len(x0),), 0.5)
    draw = Draw(t, eps, None, Flow().log_snr(t), torch.ones(len(x0), dtype=torch.bool))
    parts = {"weighting": FlowWeighting(), "times": UniformTimes(), "power": 0}
    torch.manual_seed(3)
    apart = MeanFlow(**parts).at(denoiser, x0, y, draw)
    torch.manual_seed(3)
    plain = MeanFlow(**parts).at(denoiser, x0, y, draw._replace(ahead=None))
    torch.testing.assert_close(apart, plain)
