import pytest
import torch

from ccdiff.diffusion.oracle import FiniteOracle, GaussianOracle
from ccdiff.diffusion.schedules import Cosine, Flow

TIMES = [0.05, 0.3, 0.6, 0.9]


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).squeeze()


def gaussian(schedule, *, mean: float = 0.3, std: float = 0.5) -> GaussianOracle:
    return GaussianOracle(schedule, f64(mean), f64(std))


def noisy(oracle: GaussianOracle, t: torch.Tensor, n: int = 200_000):
    """Data of the oracle and its noisy versions, [n, 1]."""
    x0 = oracle.mean + oracle.std * torch.randn(n, 1, dtype=torch.float64)
    eps = torch.randn_like(x0)
    return x0, oracle.schedule.alpha(t) * x0 + oracle.schedule.sigma(t) * eps


@pytest.mark.parametrize("t", TIMES)
def test_the_error_of_the_gaussian_oracle_is_the_posterior_variance(schedule, t):
    oracle, t = gaussian(schedule), f64(t)
    x0, x_t = noisy(oracle, t)
    error = (oracle(x_t, t) - x0).square()
    # Five standard errors of the mean of a scaled chi-square with one degree of freedom.
    torch.testing.assert_close(
        error.mean(), oracle.posterior_variance(t), rtol=5 * (2 / len(x0)) ** 0.5, atol=0
    )


@pytest.mark.parametrize("t", TIMES)
def test_no_affine_denoiser_beats_the_gaussian_oracle(t):
    oracle, t = gaussian(Cosine()), f64(t)
    x0, x_t = noisy(oracle, t)
    x0_hat = oracle(x_t, t)
    best = (x0_hat - x0).square().mean()
    for other in (
        oracle.mean + 1.1 * (x0_hat - oracle.mean),
        oracle.mean + 0.9 * (x0_hat - oracle.mean),
        x0_hat + 0.02,
        x0_hat - 0.02,
    ):
        assert (other - x0).square().mean() > best


def test_a_gaussian_of_no_width_is_its_mean(schedule):
    oracle = gaussian(schedule, std=0.0)
    for t in (f64(0.0), f64(0.5), f64(1.0)):
        x0_hat = oracle(torch.randn(4, 3, dtype=torch.float64), t)
        torch.testing.assert_close(x0_hat, torch.full_like(x0_hat, 0.3))


def test_oracles_take_one_time_or_one_for_each_sample():
    x_t = torch.randn(4, 1, 2, 2)
    t = torch.full((4,), 0.4)
    for oracle in (
        GaussianOracle(Cosine(), torch.tensor(0.3), torch.tensor(0.5)),
        FiniteOracle(Cosine(), torch.randn(3, 1, 2, 2)),
    ):
        torch.testing.assert_close(oracle(x_t, t), oracle(x_t, t[0]))
        mixed = torch.tensor([0.1, 0.4, 0.7, 0.9])
        torch.testing.assert_close(oracle(x_t, mixed)[1], oracle(x_t, mixed[1])[1])
        with pytest.raises((ValueError, RuntimeError)):
            oracle(x_t, torch.rand(3))


def test_the_exact_ode_solves_the_ode(schedule):
    # d(x / alpha) / d(sigma / alpha) = eps_hat: the probability flow, Song et al., 2021
    # (arXiv:2010.02502), eq. 14.
    oracle = gaussian(schedule)
    for t in (f64(0.2), f64(0.5), f64(0.8)):
        x_t = torch.linspace(-2, 2, 9, dtype=torch.float64)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        eps_hat = (x_t - alpha * oracle(x_t, t)) / sigma
        # The levels half a step to either side, so that no kink of the schedule lies between.
        after, before = (schedule.time(schedule.log_snr(t) + h) for h in (-1e-4, 1e-4))
        rise, run = (
            (oracle.ode_map(x_t, t, after) / schedule.alpha(after))
            - (oracle.ode_map(x_t, t, before) / schedule.alpha(before)),
            schedule.sigma(after) / schedule.alpha(after)
            - schedule.sigma(before) / schedule.alpha(before),
        )
        torch.testing.assert_close(rise / run, eps_hat, rtol=1e-6, atol=1e-6)


def test_the_exact_ode_keeps_the_marginals_and_composes(schedule):
    oracle = gaussian(schedule)
    t, u, s = f64(0.8), f64(0.5), f64(0.1)
    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(oracle.ode_map(x_t, t, t), x_t)
    two_legs = oracle.ode_map(oracle.ode_map(x_t, t, u), u, s)
    torch.testing.assert_close(oracle.ode_map(x_t, t, s), two_legs)
    # A point k deviations above the mean stays there.
    for k in (-1.0, 0.0, 2.0):
        at_t, at_s = (
            schedule.alpha(v) * 0.3
            + k * (schedule.alpha(v) ** 2 * 0.25 + schedule.sigma(v) ** 2).sqrt()
            for v in (t, s)
        )
        torch.testing.assert_close(oracle.ode_map(at_t, t, s), at_s)


@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=repr)
@pytest.mark.parametrize("std", [0.0, 0.4])
@pytest.mark.parametrize("t", TIMES)
def test_the_finite_oracle_is_the_rule_of_bayes(schedule, t, std):
    t = f64(t)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    points = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    x_t = torch.randn(7, 1, 2, 2, dtype=torch.float64)
    x0_hat = FiniteOracle(schedule, points, std)(x_t, t)
    for x, estimate in zip(x_t, x0_hat, strict=True):
        likelihood = torch.distributions.Normal(
            alpha * points, (alpha**2 * std**2 + sigma**2).sqrt()
        )
        log_joint = likelihood.log_prob(x).flatten(1).sum(1)
        posterior = (log_joint - log_joint.logsumexp(0)).exp()
        means = GaussianOracle(schedule, points, f64(std))(x, t)
        expected = (posterior[:, None, None, None] * means).sum(0)
        torch.testing.assert_close(estimate, expected, rtol=1e-6, atol=1e-9)


def test_two_points_have_the_posterior_mean_of_a_coin():
    t, x_t = f64(0.6), torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)
    oracle = FiniteOracle(Cosine(), torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    expected = torch.tanh(Cosine().alpha(t) * x_t / Cosine().sigma(t) ** 2)
    torch.testing.assert_close(oracle(x_t, t), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_finite_oracle_returns_the_data_at_no_noise_and_their_mean_at_pure_noise(dtype):
    points = torch.rand(20, 1, 8, 8, dtype=dtype) * 2 - 1
    oracle, eps = FiniteOracle(Cosine(), points), torch.randn(20, 1, 8, 8, dtype=dtype)
    clean, noise = torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype)
    x_t = Cosine().alpha(clean) * points + Cosine().sigma(clean) * eps
    torch.testing.assert_close(oracle(x_t, clean), points)
    x0_hat = oracle(eps, noise)
    assert x0_hat.dtype == dtype
    torch.testing.assert_close(x0_hat, points.mean(0).expand_as(x0_hat), rtol=0, atol=0.02)


def test_many_points_of_a_gaussian_become_the_gaussian_oracle():
    t = f64(0.6)
    points = 0.3 + 0.5 * torch.randn(200_000, 1, dtype=torch.float64)
    x_t = torch.linspace(-1, 1, 9, dtype=torch.float64).unsqueeze(1)
    exact = gaussian(Cosine())(x_t, t)
    torch.testing.assert_close(FiniteOracle(Cosine(), points)(x_t, t), exact, rtol=0, atol=0.02)
