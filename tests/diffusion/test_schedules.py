from dataclasses import replace
from math import pi

import pytest
import torch
from parts import instances

from ccdiff.diffusion.schedules import (
    Cosine,
    Flow,
    Linear,
    Quadratic,
    Schedule,
    Sigmoid,
    VariancePreserving,
)

DISCRETE = [
    Linear(),
    Linear(num_steps=50),
    Linear(num_steps=100, beta_start=1e-3, beta_end=0.2),
    Quadratic(),
    Quadratic(num_steps=10),
    Quadratic(beta_start=8.5e-4, beta_end=0.012),
]


def grid(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """All of [0, 1], ends included, even and ever finer towards both ends."""
    even = torch.linspace(0, 1, 2001, dtype=torch.float64)
    near = torch.logspace(-12, -3, 1001, dtype=torch.float64)
    return torch.cat([even, near, 1 - near]).to(dtype).unique()  # sorted


def inside(schedule: Schedule, t: torch.Tensor) -> torch.Tensor:
    """Where the bound of the schedule is not reached."""
    return schedule.log_snr(t).abs() < schedule.max_log_snr


def test_log_snr_falls_strictly_between_its_bounds(schedule):
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    near_zero = torch.logspace(-12, 0, 2001, dtype=torch.float64)
    for times in (t, near_zero, (1 - near_zero).flip(0)):
        times = times[inside(schedule, times)]
        # 1 - t is coarse next to 1e-12: steps that rounding has made equal say nothing.
        times = times[torch.cat([torch.tensor([True]), times.diff() > 1e-9 * times[1:]])]
        assert len(times) > 100
        assert (schedule.log_snr(times).diff() < 0).all()
    assert schedule.log_snr(t[-1]) < schedule.log_snr(t[0])


def test_log_snr_never_rises_and_stays_within_its_bounds(schedule):
    for bound in (schedule.max_log_snr, 3.0):
        bounded = replace(schedule, max_log_snr=bound)
        log_snr = bounded.log_snr(grid())
        assert log_snr.isfinite().all()
        assert log_snr.abs().max() <= bound
        assert (log_snr.diff() <= 0).all()
        free = inside(bounded, grid())
        torch.testing.assert_close(
            log_snr[free], replace(schedule, max_log_snr=bound + 1).log_snr(grid()[free])
        )


def test_the_noisy_end_can_be_bounded_alone(schedule):
    bounded = replace(schedule, min_log_snr=-3.0)
    torch.testing.assert_close(bounded.log_snr(grid()), schedule.log_snr(grid()).clamp(min=-3.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_scales_are_positive_and_finite_everywhere(schedule, dtype):
    t = grid(dtype)
    assert t[0] == 0
    assert t[-1] == 1
    for scale in (schedule.alpha(t), schedule.sigma(t)):
        assert scale.dtype == dtype
        assert scale.isfinite().all()
        assert (scale > 0).all()
        assert (scale <= 1).all()
    # So even the ends can be divided by: the bound keeps both scales above exp(-L / 2) / 2.
    smallest = torch.minimum(schedule.alpha(t), schedule.sigma(t)).min()
    assert smallest > torch.tensor(-schedule.max_log_snr / 2).exp() / 2


def test_scales_are_those_of_log_snr(schedule):
    t = grid()
    alpha, sigma = schedule.scales(schedule.log_snr(t))
    torch.testing.assert_close(schedule.alpha(t), alpha, rtol=0, atol=0)
    torch.testing.assert_close(schedule.sigma(t), sigma, rtol=0, atol=0)
    log_snr = 2 * (alpha.log() - sigma.log())
    torch.testing.assert_close(log_snr, schedule.log_snr(t), rtol=0, atol=1e-9)


def test_a_level_is_the_same_by_its_time_and_by_its_noise(schedule):
    t = grid()
    level = schedule.at(t)
    assert level.t is t
    for found, expected in (
        (level.log_snr, schedule.log_snr(t)),
        (level.alpha, schedule.alpha(t)),
        (level.sigma, schedule.sigma(t)),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(level.ratio, level.sigma / level.alpha)
    there = schedule.at_log_snr(level.log_snr)
    torch.testing.assert_close(there.alpha, level.alpha, rtol=0, atol=0)
    free = inside(schedule, t)
    torch.testing.assert_close(there.t[free], t[free], rtol=1e-6, atol=1e-9)
    # Beyond either end there is no time: the nearer end stands in.
    beyond = schedule.at_log_snr(torch.tensor([-99.0, 99.0], dtype=torch.float64))
    ends = schedule.at(torch.tensor([1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(beyond.log_snr, ends.log_snr, rtol=0, atol=0)
    assert level.repeat(2).t.shape == (2 * len(t),)
    assert schedule.at(t[3]).repeat(2).log_snr.ndim == 0


def test_time_inverts_log_snr(schedule):
    t = grid()
    t = t[inside(schedule, t)]
    # Where the schedule is flat, the level says less about the time: compare levels there.
    torch.testing.assert_close(schedule.time(schedule.log_snr(t)), t, rtol=1e-6, atol=1e-9)
    high, low = schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64))
    level = torch.linspace(float(low) + 1e-3, float(high) - 1e-3, 201, dtype=torch.float64)
    torch.testing.assert_close(schedule.log_snr(schedule.time(level)), level, rtol=0, atol=1e-8)


def test_time_keeps_shape_and_dtype_and_answers_outside_its_range(schedule):
    assert schedule.time(torch.zeros(2, 3)).shape == (2, 3)
    beyond = torch.tensor([schedule.max_log_snr + 1, -schedule.max_log_snr - 1])
    times = schedule.time(beyond)
    assert times.dtype == torch.float32
    torch.testing.assert_close(times, torch.tensor([0.0, 1.0]), rtol=0, atol=1e-15)


def test_float32_agrees_with_float64(schedule):
    t = grid(torch.float32)
    exact, single = schedule.log_snr(t.double()), schedule.log_snr(t)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-5)
    for f in (schedule.alpha, schedule.sigma):
        torch.testing.assert_close(f(t).double(), f(t.double()), rtol=1e-5, atol=0)


def test_schedules_are_elementwise(schedule):
    t = torch.rand(2, 3, dtype=torch.float64)
    for f in (schedule.log_snr, schedule.alpha, schedule.sigma):
        assert f(t).shape == (2, 3)
        assert f(t)[1, 2] == f(t[1, 2])


@pytest.mark.parametrize("schedule", instances(VariancePreserving), ids=repr)
def test_variance_preserving_scales_lie_on_the_unit_circle(schedule):
    t = grid()
    one = schedule.alpha(t).square() + schedule.sigma(t).square()
    torch.testing.assert_close(one, torch.ones_like(t), rtol=0, atol=1e-14)


def test_flow_is_the_straight_line():
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    torch.testing.assert_close(Flow().alpha(t), 1 - t, rtol=1e-12, atol=0)
    torch.testing.assert_close(Flow().sigma(t), t, rtol=1e-12, atol=0)


def alpha_bars(schedule: Linear | Quadratic) -> torch.Tensor:
    """The products of ``1 - beta`` as the papers write them, [T]."""
    first, last, num = schedule.beta_start, schedule.beta_end, schedule.num_steps
    if isinstance(schedule, Linear):
        betas = torch.linspace(first, last, num, dtype=torch.float64)
    else:
        betas = torch.linspace(first**0.5, last**0.5, num, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


@pytest.mark.parametrize("schedule", DISCRETE, ids=repr)
def test_discrete_schedules_hold_the_alpha_bar_products(schedule):
    t = torch.arange(1, schedule.num_steps + 1, dtype=torch.float64) / schedule.num_steps
    expected = alpha_bars(schedule)
    torch.testing.assert_close(schedule.alpha(t).square(), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(schedule.sigma(t).square(), 1 - expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", DISCRETE, ids=repr)
def test_discrete_schedules_add_noise_at_a_constant_rate_within_a_step(schedule):
    i = torch.arange(1, schedule.num_steps, dtype=torch.float64)
    before, between, after = (
        schedule.alpha((i + shift) / schedule.num_steps).log() for shift in (0, 0.5, 1)
    )
    torch.testing.assert_close(between, (before + after) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("schedule", "name"),
    [
        (Linear(), "linear"),
        (Linear(num_steps=100, beta_start=1e-3, beta_end=0.2), "linear"),
        (Quadratic(), "scaled_linear"),
        (Quadratic(beta_start=8.5e-4, beta_end=0.012), "scaled_linear"),
    ],
    ids=repr,
)
def test_discrete_schedules_agree_with_diffusers(schedule, name):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(
        num_train_timesteps=schedule.num_steps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=name,
    ).alphas_cumprod
    t = torch.arange(1, schedule.num_steps + 1) / schedule.num_steps
    torch.testing.assert_close(schedule.alpha(t).square(), theirs, rtol=0, atol=1e-6)


def test_cosine_agrees_with_diffusers():
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    t = torch.arange(1, 1000) / 1000  # they cap the last increment, which differs at t = 1 only
    ours = Cosine().alpha(t).square()
    torch.testing.assert_close(ours, theirs.alphas_cumprod[:-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("offset", [0.008, 0.1])
def test_cosine_is_the_formula_of_the_paper(offset):
    def f(t):
        return torch.cos((t + offset) / (1 + offset) * pi / 2) ** 2

    schedule = Cosine(offset=offset)
    t = grid()
    t = t[inside(schedule, t)]
    alpha_bar = f(t) / f(torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(schedule.alpha(t).square(), alpha_bar, rtol=0, atol=1e-12)
    torch.testing.assert_close(schedule.sigma(t).square(), 1 - alpha_bar, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("start", "end", "tau"), [(-3, 3, 1.0), (0, 3, 0.3), (-3, 3, 0.9)])
def test_sigmoid_is_the_formula_of_the_paper(start, end, tau):
    schedule = Sigmoid(start=start, end=end, temperature=tau)
    t = grid()
    t = t[inside(schedule, t)]
    low, high = torch.tensor([start / tau, end / tau], dtype=torch.float64).sigmoid()
    alpha_bar = (high - ((t * (end - start) + start) / tau).sigmoid()) / (high - low)
    torch.testing.assert_close(schedule.alpha(t).square(), alpha_bar, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (lambda: Cosine(max_log_snr=-1.0), "-1.0"),
        (lambda: Flow(min_log_snr=1.0), "got 1.0"),
        (lambda: Linear(beta_start=0.02, beta_end=1e-4), "0.02"),
        (lambda: Linear(beta_end=1.5), "1.5"),
        (lambda: Quadratic(num_steps=1), "got 1"),
        (lambda: Sigmoid(start=3.0, end=-3.0), "-3.0"),
        (lambda: Sigmoid(temperature=0.0), "0.0"),
    ],
)
def test_bad_settings_are_refused_with_the_value(build, value):
    with pytest.raises(ValueError, match=value):
        build()
