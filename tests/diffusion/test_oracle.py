import pytest
import torch

from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.oracle import FiniteOracle, GaussianOracle
from ccdiff.diffusion.schedules import Cosine, Flow

TIMES = [0.05, 0.3, 0.6, 0.9]


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).squeeze()


def gaussian(*, mean: float = 0.3, std: float = 0.5) -> GaussianOracle:
    return GaussianOracle(mean=f64(mean), std=f64(std))


def noisy(oracle: GaussianOracle, level: Level, n: int = 200_000):
    """Data of the oracle and its noisy versions, [n, 1]."""
    x0 = oracle.mean + oracle.std * torch.randn(n, 1, dtype=torch.float64)
    eps = torch.randn_like(x0)
    return x0, level.alpha * x0 + level.sigma * eps


@pytest.mark.parametrize("t", TIMES)
def test_the_error_of_the_gaussian_oracle_is_the_posterior_variance(schedule, t):
    oracle, level = gaussian(), schedule.at(f64(t))
    x0, x_t = noisy(oracle, level)
    error = (oracle(x_t, level) - x0).square()
    # Five standard errors of the mean of a scaled chi-square with one degree of freedom.
    torch.testing.assert_close(
        error.mean(), oracle.posterior_variance(level), rtol=5 * (2 / len(x0)) ** 0.5, atol=0
    )


@pytest.mark.parametrize("t", TIMES)
def test_no_affine_denoiser_beats_the_gaussian_oracle(t):
    oracle, level = gaussian(), Cosine().at(f64(t))
    x0, x_t = noisy(oracle, level)
    x0_hat = oracle(x_t, level)
    best = (x0_hat - x0).square().mean()
    for other in (
        oracle.mean + 1.1 * (x0_hat - oracle.mean),
        oracle.mean + 0.9 * (x0_hat - oracle.mean),
        x0_hat + 0.02,
        x0_hat - 0.02,
    ):
        assert (other - x0).square().mean() > best


def test_a_gaussian_of_no_width_is_its_mean(schedule):
    oracle = gaussian(std=0.0)
    for t in (f64(0.0), f64(0.5), f64(1.0)):
        x0_hat = oracle(torch.randn(4, 3, dtype=torch.float64), schedule.at(t))
        torch.testing.assert_close(x0_hat, torch.full_like(x0_hat, 0.3))


def test_oracles_take_one_level_or_one_for_each_sample():
    x_t, at = torch.randn(4, 1, 2, 2), Cosine().at
    t = torch.full((4,), 0.4)
    for oracle in (
        GaussianOracle(mean=torch.tensor(0.3), std=torch.tensor(0.5)),
        FiniteOracle(points=torch.randn(3, 1, 2, 2)),
    ):
        torch.testing.assert_close(oracle(x_t, at(t)), oracle(x_t, at(t[0])))
        mixed = torch.tensor([0.1, 0.4, 0.7, 0.9])
        torch.testing.assert_close(oracle(x_t, at(mixed))[1], oracle(x_t, at(mixed[1]))[1])
        with pytest.raises((ValueError, RuntimeError)):
            oracle(x_t, at(torch.rand(3)))


def test_the_exact_ode_solves_the_ode(schedule):
    # d(x / alpha) / d(sigma / alpha) = eps_hat: the probability flow, Song et al., 2021
    # (arXiv:2010.02502), eq. 14.
    oracle = gaussian()
    for t in (f64(0.2), f64(0.5), f64(0.8)):
        x_t, now = torch.linspace(-2, 2, 9, dtype=torch.float64), schedule.at(t)
        eps_hat = (x_t - now.alpha * oracle(x_t, now)) / now.sigma
        # The levels half a step to either side, so that no kink of the schedule lies between.
        after, before = (schedule.at_log_snr(now.log_snr + h) for h in (-1e-4, 1e-4))
        rise, run = (
            oracle.ode_map(x_t, now, after) / after.alpha
            - oracle.ode_map(x_t, now, before) / before.alpha,
            after.ratio - before.ratio,
        )
        torch.testing.assert_close(rise / run, eps_hat, rtol=1e-6, atol=1e-6)


def test_the_exact_ode_keeps_the_marginals_and_composes(schedule):
    oracle = gaussian()
    t, u, s = (schedule.at(f64(time)) for time in (0.8, 0.5, 0.1))
    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(oracle.ode_map(x_t, t, t), x_t)
    two_legs = oracle.ode_map(oracle.ode_map(x_t, t, u), u, s)
    torch.testing.assert_close(oracle.ode_map(x_t, t, s), two_legs)
    # A point k deviations above the mean stays there.
    for k in (-1.0, 0.0, 2.0):
        at_t, at_s = (
            level.alpha * 0.3 + k * (level.alpha**2 * 0.25 + level.sigma**2).sqrt()
            for level in (t, s)
        )
        torch.testing.assert_close(oracle.ode_map(at_t, t, s), at_s)


@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=repr)
@pytest.mark.parametrize("std", [0.0, 0.4])
@pytest.mark.parametrize("t", TIMES)
def test_the_finite_oracle_is_the_rule_of_bayes(schedule, t, std):
    level = schedule.at(f64(t))
    alpha, sigma = level.alpha, level.sigma
    points = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    x_t = torch.randn(7, 1, 2, 2, dtype=torch.float64)
    x0_hat = FiniteOracle(points=points, std=std)(x_t, level)
    for x, estimate in zip(x_t, x0_hat, strict=True):
        likelihood = torch.distributions.Normal(
            alpha * points, (alpha**2 * std**2 + sigma**2).sqrt()
        )
        log_joint = likelihood.log_prob(x).flatten(1).sum(1)
        posterior = (log_joint - log_joint.logsumexp(0)).exp()
        means = GaussianOracle(mean=points, std=f64(std))(x, level)
        expected = (posterior[:, None, None, None] * means).sum(0)
        torch.testing.assert_close(estimate, expected, rtol=1e-6, atol=1e-9)


def test_two_points_have_the_posterior_mean_of_a_coin():
    level, x_t = Cosine().at(f64(0.6)), torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)
    oracle = FiniteOracle(points=torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    expected = torch.tanh(level.alpha * x_t / level.sigma**2)
    torch.testing.assert_close(oracle(x_t, level), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_finite_oracle_returns_the_data_at_no_noise_and_their_mean_at_pure_noise(dtype):
    points = torch.rand(20, 1, 8, 8, dtype=dtype) * 2 - 1
    oracle, eps = FiniteOracle(points=points), torch.randn(20, 1, 8, 8, dtype=dtype)
    clean, noise = (Cosine().at(torch.tensor(t, dtype=dtype)) for t in (0.0, 1.0))
    x_t = clean.alpha * points + clean.sigma * eps
    torch.testing.assert_close(oracle(x_t, clean), points)
    x0_hat = oracle(eps, noise)
    assert x0_hat.dtype == dtype
    torch.testing.assert_close(x0_hat, points.mean(0).expand_as(x0_hat), rtol=0, atol=0.02)


def test_many_points_of_a_gaussian_become_the_gaussian_oracle():
    level = Cosine().at(f64(0.6))
    points = 0.3 + 0.5 * torch.randn(200_000, 1, dtype=torch.float64)
    x_t = torch.linspace(-1, 1, 9, dtype=torch.float64).unsqueeze(1)
    exact = gaussian()(x_t, level)
    found = FiniteOracle(points=points)(x_t, level)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.02)
