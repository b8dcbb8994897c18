import pytest
import torch
from torch import nn

from ccdiff.diffusion.conditioning import MultiHot, OneHot
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives import Denoising, Draw, Objective
from ccdiff.diffusion.oracle import GaussianOracle
from ccdiff.diffusion.predictions import EDM, Clean, Noise
from ccdiff.diffusion.schedules import Cosine, Linear
from ccdiff.diffusion.times import Stratified, UniformTimes
from ccdiff.diffusion.weightings import SNR, EDMWeighting, Uniform


class Wiggle(nn.Module):
    """A network that computes something or other, in the precision of its input."""

    def forward(self, x, log_snr, tokens):
        label = tokens.mean((1, 2)).to(x.dtype)
        level = log_snr.to(x.dtype)
        return torch.sin(2 * x) + (0.1 * level + label)[:, None, None, None]


class Exact(nn.Module):
    """The network whose denoiser is the oracle, its gain on the input too large by ``excess``."""

    def __init__(self, oracle: GaussianOracle, schedule, prediction, *, excess: float) -> None:
        super().__init__()
        self.oracle, self.schedule = oracle, schedule
        self.prediction, self.excess = prediction, excess

    def forward(self, x, log_snr, tokens):
        level = self.schedule.at_log_snr(log_snr.to(x.dtype))
        c_skip, c_out, c_in = self.prediction.coefficients(*level.scales_like(x))
        x_t = x / c_in
        x0_hat = self.oracle(x_t, level)
        return (x0_hat + self.excess * x - c_skip * x_t) / c_out


def batch(n: int = 33, *, dtype: torch.dtype = torch.float64):
    """Images, labels and a draw whose times cover [0, 1] with both ends."""
    x0 = torch.rand(n, 1, 4, 4, dtype=dtype) * 2 - 1
    t = torch.linspace(0, 1, n, dtype=dtype)
    drop = torch.arange(n) % 4 == 0
    return x0, torch.arange(n) % 3, Draw(t, torch.randn_like(x0), drop)


def parts(denoiser: Denoiser, x0, draw):
    """The levels [n], their scales [n, 1, 1, 1] and the noisy images of a draw."""
    level = denoiser.schedule.at(draw.t)
    alpha, sigma = level.scales_like(x0)
    return level, alpha, sigma, alpha * x0 + sigma * draw.eps


def mse(a, b):
    return (a - b).square().mean((1, 2, 3))


def objective(weighting) -> Objective:
    return Denoising(weighting=weighting, times=UniformTimes())


def test_noise_with_snr_is_the_plain_error_on_eps(make_denoiser, schedule):
    denoiser = make_denoiser(Wiggle(), prediction=Noise(), schedule=schedule)
    x0, y, draw = batch()
    level, _, _, x_t = parts(denoiser, x0, draw)
    expected = mse(denoiser.output(x_t, level, y, draw.drop), draw.eps)
    loss = objective(SNR()).at(denoiser, x0, y, draw)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)


def test_noise_with_snr_is_the_plain_error_on_eps_of_a_unet_in_float32(make_denoiser):
    denoiser = make_denoiser(prediction=Noise(), schedule=Linear())
    x0, y, draw = batch(dtype=torch.float32)
    level, _, _, x_t = parts(denoiser, x0, draw)
    expected = mse(denoiser.output(x_t, level, y, draw.drop), draw.eps)
    loss = objective(SNR()).at(denoiser, x0, y, draw)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)


def test_the_loss_is_the_weighted_error_on_x0(make_denoiser, prediction, weighting, schedule):
    denoiser = make_denoiser(Wiggle(), prediction=prediction, schedule=schedule)
    x0, y, draw = batch()
    level, _, _, x_t = parts(denoiser, x0, draw)
    expected = weighting(level.log_snr) * mse(denoiser(x_t, level, y, draw.drop), x0)
    loss = objective(weighting).at(denoiser, x0, y, draw)
    assert loss.shape == (len(x0),)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-9)


def test_edm_with_its_weighting_is_the_plain_error_on_its_target(make_denoiser, schedule):
    prediction = EDM(sigma_data=0.7)
    denoiser = make_denoiser(Wiggle(), prediction=prediction, schedule=schedule)
    x0, y, draw = batch()
    level, alpha, sigma, x_t = parts(denoiser, x0, draw)
    target = prediction.target(x0, draw.eps, alpha, sigma)
    expected = mse(denoiser.output(x_t, level, y, draw.drop), target)
    loss = objective(EDMWeighting(sigma_data=0.7)).at(denoiser, x0, y, draw)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_loss_of_the_exact_denoiser_is_the_posterior_variance(
    make_denoiser, prediction, schedule, t
):
    mean, std = torch.tensor([0.3, 0.5], dtype=torch.float64)
    oracle = GaussianOracle(mean=mean, std=std)
    n = 128 * 16 * 16
    x0 = mean + std * torch.randn(128, 1, 16, 16, dtype=torch.float64)
    draw = Draw(torch.full((128,), t, dtype=torch.float64), torch.randn_like(x0), None)
    y = torch.zeros(128, dtype=torch.long)

    def loss(excess: float) -> torch.Tensor:
        network = Exact(oracle, schedule, prediction, excess=excess)
        denoiser = make_denoiser(network, prediction=prediction, schedule=schedule)
        return objective(Uniform()).at(denoiser, x0, y, draw).mean()

    # Five standard errors of the mean of a scaled chi-square with one degree of freedom.
    torch.testing.assert_close(
        loss(0.0),
        oracle.posterior_variance(schedule.at(draw.t[0])),
        rtol=5 * (2 / n) ** 0.5,
        atol=0,
    )
    # The same noise for all, so that chance cannot hide that another denoiser is worse.
    assert loss(0.0) < loss(0.1)
    assert loss(0.0) < loss(-0.1)


def test_the_loss_of_a_sample_does_not_depend_on_its_batch(make_denoiser):
    denoiser = make_denoiser()
    x0, y, draw = batch(8, dtype=torch.float32)
    whole = objective(SNR()).at(denoiser, x0, y, draw)
    rows = slice(3, 5)
    part = objective(SNR()).at(denoiser, x0[rows], y[rows], draw.part(rows))
    torch.testing.assert_close(part, whole[rows], rtol=1e-4, atol=1e-6)


def test_a_part_of_a_draw_holds_its_rows():
    _, _, draw = batch(6)
    part = draw.part(slice(2, 4))
    for whole, some in zip(draw[:3], part[:3], strict=True):
        assert torch.equal(some, whole[2:4])
    assert Draw(draw.t, draw.eps, None).part(slice(2, 4)).drop is None


def test_a_draw_comes_from_the_generator_alone(make_denoiser):
    denoiser = make_denoiser(conditioning=OneHot(["a", "b", "c"], dim=8, drop=0.5))
    plain = Denoising(weighting=SNR(), times=Stratified())
    x0 = torch.zeros(64, 1, 4, 4)

    def draw(seed: int) -> Draw:
        return plain.draw(denoiser, x0, torch.Generator().manual_seed(seed))

    first = draw(1)
    assert first.t.shape == (64,)
    assert first.eps.shape == x0.shape
    for one, same, other in zip(first[:3], draw(1)[:3], draw(2)[:3], strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
    assert abs(float(first.eps.mean())) < 5 / 32
    assert abs(float(first.eps.std()) - 1) < 5 / 45
    assert 10 < int(first.drop.sum()) < 54


def test_calling_is_drawing_and_weighing(make_denoiser):
    denoiser = make_denoiser(conditioning=OneHot(["a", "b", "c"], dim=8, drop=0.5))
    plain = objective(SNR())
    x0, y, _ = batch(16, dtype=torch.float32)
    draw = plain.draw(denoiser, x0, torch.Generator().manual_seed(3))
    called = plain(denoiser, x0, y, torch.Generator().manual_seed(3))
    assert torch.equal(called, plain.at(denoiser, x0, y, draw))


@pytest.mark.parametrize("kind", [OneHot, MultiHot])
def test_a_hidden_label_has_no_part_in_the_loss(make_denoiser, kind):
    denoiser = make_denoiser(conditioning=kind(["a", "b", "c"], dim=8))
    x0, _, draw = batch(8, dtype=torch.float32)
    if kind is OneHot:
        y, other = torch.zeros(8, dtype=torch.long), torch.ones(8, dtype=torch.long)
    else:
        y, other = torch.zeros(8, 3, dtype=torch.uint8), torch.ones(8, 3, dtype=torch.uint8)
    hidden = torch.arange(8) < 4
    losses = [
        objective(SNR()).at(denoiser, x0, labels, draw._replace(drop=hidden))
        for labels in (y, other)
    ]
    assert torch.equal(losses[0][hidden], losses[1][hidden])
    assert (losses[0] != losses[1])[~hidden].all()


def test_gradients_are_finite_at_both_ends(make_denoiser, prediction, weighting, schedule):
    class Affine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 1)

        def forward(self, x, log_snr, tokens):
            return self.layer(x)

    denoiser = make_denoiser(Affine(), prediction=prediction, schedule=schedule)
    x0 = torch.rand(2, 1, 4, 4)
    draw = Draw(torch.tensor([0.0, 1.0]), torch.randn(2, 1, 4, 4), None)
    loss = objective(weighting).at(denoiser, x0, torch.tensor([0, 1]), draw)
    assert loss.isfinite().all()
    loss.sum().backward()
    for parameter in denoiser.network.parameters():
        assert parameter.grad.isfinite().all()


def test_the_loss_of_predicting_the_data_is_zero(make_denoiser):
    x0, y, draw = batch()

    class Peek(nn.Module):
        def forward(self, x, log_snr, tokens):
            return x0

    denoiser = make_denoiser(Peek(), prediction=Clean(), schedule=Cosine())
    assert not objective(SNR()).at(denoiser, x0, y, draw).any()
