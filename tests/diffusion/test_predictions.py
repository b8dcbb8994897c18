import pytest
import torch

from ccdiff.diffusion.predictions import EDM, Clean, FlowVelocity, Noise, Velocity
from ccdiff.diffusion.schedules import Flow, Linear

TEXTBOOK = {
    Noise: lambda x0, eps, alpha, sigma: eps,
    Clean: lambda x0, eps, alpha, sigma: x0,
    Velocity: lambda x0, eps, alpha, sigma: (
        (alpha * eps - sigma * x0) / (alpha**2 + sigma**2).sqrt()
    ),
    FlowVelocity: lambda x0, eps, alpha, sigma: eps - x0,
}


def draw(schedule, n=257):
    """Scales [n, 1] over the whole schedule, data and noise [n, 5], in float64."""
    t = torch.linspace(0, 1, n, dtype=torch.float64).unsqueeze(1)
    x0 = torch.rand(n, 5, dtype=torch.float64) * 2 - 1
    eps = torch.randn(n, 5, dtype=torch.float64)
    return schedule.alpha(t), schedule.sigma(t), x0, eps


def sigma_data(prediction):
    """The standard deviation of the data that the coefficients assume: 1 unless they say."""
    return getattr(prediction, "sigma_data", 1.0)


def test_the_target_is_the_output_that_denoises_exactly(prediction, schedule):
    alpha, sigma, x0, eps = draw(schedule)
    x_t = alpha * x0 + sigma * eps
    c_skip, c_out, _ = prediction.coefficients(alpha, sigma)
    target = prediction.target(x0, eps, alpha, sigma)
    torch.testing.assert_close(c_skip * x_t + c_out * target, x0, rtol=0, atol=1e-10)
    torch.testing.assert_close(target, (x0 - c_skip * x_t) / c_out, rtol=1e-7, atol=1e-7)


def test_an_output_is_recovered_from_its_estimate(prediction, schedule):
    alpha, sigma, x0, eps = draw(schedule)
    x_t = alpha * x0 + sigma * eps
    output = torch.randn_like(x_t)
    c_skip, c_out, _ = prediction.coefficients(alpha, sigma)
    x0_hat = c_skip * x_t + c_out * output
    torch.testing.assert_close((x0_hat - c_skip * x_t) / c_out, output, rtol=1e-7, atol=1e-7)


def test_the_target_keeps_its_digits_in_float32(prediction, schedule):
    alpha, sigma, x0, eps = draw(schedule)
    exact = prediction.target(x0, eps, alpha, sigma)
    single = prediction.target(x0.float(), eps.float(), alpha.float(), sigma.float())
    assert single.dtype == torch.float32
    # At |log_snr| = 15 one scale is 2^-11, so a target of size 1 keeps about 24 - 11 bits.
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-3)


def test_the_network_sees_unit_variance(prediction, schedule):
    alpha, sigma, _, _ = draw(schedule)
    variance = alpha**2 * sigma_data(prediction) ** 2 + sigma**2
    c_in = prediction.coefficients(alpha, sigma).c_in
    torch.testing.assert_close(c_in**2 * variance, torch.ones_like(alpha), rtol=1e-12, atol=0)


def test_coefficients_depend_on_the_noise_level_alone(prediction, schedule):
    # x_t and k x_t are one image at one noise level, so that a model that was trained under one
    # schedule may be sampled under another.
    alpha, sigma, _, _ = draw(schedule)
    k = 0.3
    c_skip, c_out, c_in = prediction.coefficients(alpha, sigma)
    scaled = prediction.coefficients(k * alpha, k * sigma)
    torch.testing.assert_close(scaled.c_skip * k, c_skip, rtol=1e-12, atol=0)
    torch.testing.assert_close(scaled.c_out, c_out, rtol=1e-12, atol=0)
    torch.testing.assert_close(scaled.c_in * k, c_in, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", TEXTBOOK, ids=lambda kind: kind.__name__)
def test_the_target_is_that_of_the_textbook(kind, schedule):
    alpha, sigma, x0, eps = draw(schedule)
    target = kind().target(x0, eps, alpha, sigma)
    torch.testing.assert_close(target, TEXTBOOK[kind](x0, eps, alpha, sigma), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("std", [0.5, 1.5])
def test_edm_is_its_table_where_alpha_is_one(std):
    sigma = torch.logspace(-2.7, 1.9, 50, dtype=torch.float64)
    c_skip, c_out, c_in = EDM(sigma_data=std).coefficients(torch.ones_like(sigma), sigma)
    total = sigma**2 + std**2
    torch.testing.assert_close(c_skip, std**2 / total)
    torch.testing.assert_close(c_out, sigma * std / total.sqrt())
    torch.testing.assert_close(c_in, 1 / total.sqrt())


@pytest.mark.parametrize("std", [0.5, 1.5])
def test_edm_trains_on_targets_of_unit_variance(std, schedule):
    alpha, sigma, _, _ = draw(schedule)
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    prediction = EDM(sigma_data=std)
    by_x0 = prediction.target(one, zero, alpha, sigma)
    by_eps = prediction.target(zero, one, alpha, sigma)
    torch.testing.assert_close(by_x0**2 * std**2 + by_eps**2, one, rtol=1e-9, atol=0)


def test_velocity_agrees_with_diffusers():
    from diffusers import DDPMScheduler

    x0, eps = torch.rand(1000, 5) * 2 - 1, torch.randn(1000, 5)
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    steps = torch.arange(1000)
    t = ((steps + 1) / 1000).unsqueeze(1)
    target = Velocity().target(x0, eps, Linear().alpha(t), Linear().sigma(t))
    torch.testing.assert_close(target, theirs.get_velocity(x0, eps, steps), rtol=0, atol=1e-4)


def test_flow_velocity_is_the_derivative_of_the_path():
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64).unsqueeze(1).requires_grad_()
    x0, eps = torch.rand(50, 1, dtype=torch.float64), torch.randn(50, 1, dtype=torch.float64)
    flow = Flow()
    (velocity,) = torch.autograd.grad((flow.alpha(t) * x0 + flow.sigma(t) * eps).sum(), t)
    target = FlowVelocity().target(x0, eps, flow.alpha(t), flow.sigma(t))
    torch.testing.assert_close(target.detach(), velocity, rtol=0, atol=1e-9)


def test_a_bad_sigma_data_is_refused_with_the_value():
    with pytest.raises(ValueError, match=r"-0\.5"):
        EDM(sigma_data=-0.5)
