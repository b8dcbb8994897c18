"""Samplers against exact solutions. Orders, moments and counts are laws, so no number is stored.

Every class is found through its base class: a new one is tested without an edit.
"""

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from parts import concrete

from ccdiff.diffusion.conditioning import OneHot
from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.guidance import CFG
from ccdiff.diffusion.levels import Reach, expand_like
from ccdiff.diffusion.oracle import FiniteOracle, GaussianOracle
from ccdiff.diffusion.samplers import (
    DDIM,
    DDPM,
    BatchNoise,
    DPMpp2M,
    Euler,
    GivenNoise,
    Heun,
    SampleNoise,
    Sampler,
    StochasticHeun,
    UniPC,
    integrate,
    sample,
)
from ccdiff.diffusion.samplers.grids import Karras, Logistic, LogSNR, Quadratic, Uniform
from ccdiff.diffusion.samplers.multistep import _adams
from ccdiff.diffusion.schedules import Cosine, Flow, Linear, Schedule

ALL = [cls(steps=1) for cls in concrete(Sampler)]
VARIANTS = [
    DDIM(steps=1, eta=0.5),
    DDIM(steps=1, eta=1.0),
    DPMpp2M(steps=1, eta=0.5),
    DPMpp2M(steps=1, eta=1.0),
    StochasticHeun(steps=1, churn=0.0),
    UniPC(steps=1, variant="bh1"),
    UniPC(steps=1, variant="bh2"),
]
ODES = [sampler for sampler in ALL + VARIANTS if not sampler.stochastic]
SCHEDULES = [cls() for cls in concrete(Schedule)]
SDES = [sampler for sampler in ALL + VARIANTS if sampler.stochastic]


def name(sampler: Sampler) -> str:
    kind = f"-eta{getattr(sampler, 'eta', 0):g}{getattr(sampler, 'variant', '')}"
    return repr(sampler).split("(")[0] + kind


def f64(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def gaussian(*, mean: float = 0.3, std: float = 0.5) -> GaussianOracle:
    return GaussianOracle(mean=f64(mean), std=f64(std))


def with_settings(sampler: Sampler, **settings) -> Sampler:
    return type(sampler)(**{**vars(sampler), **settings})


def noise64(seed: int = 0) -> BatchNoise:
    return BatchNoise(torch.Generator().manual_seed(seed), torch.float64)


def equal_log_snr_steps(schedule, steps: int) -> torch.Tensor:
    """Times from 0.98 to 0.02; equal steps leave the order alone to shape the error."""
    ends = schedule.log_snr(torch.tensor([0.98, 0.02], dtype=torch.float64))
    return schedule.time(torch.linspace(*ends.tolist(), steps + 1, dtype=torch.float64))


def unled(oracle: GaussianOracle) -> Denoise:
    """The oracle as a model that was not trained for long steps: it heeds its own level alone."""
    return lambda x_t, level: oracle(x_t, replace(level, toward=None))


def measured_order(sampler: Sampler, schedule, times_of=equal_log_snr_steps) -> float:
    """Slope of the error against the exact ODE solution, over 32 to 256 steps."""
    oracle = gaussian()
    x = torch.linspace(-2, 2, 5, dtype=torch.float64).unsqueeze(1)
    counts, errors = [32, 64, 128, 256], []
    for count in counts:
        times = times_of(schedule, count)
        x_s = integrate(sampler, unled(oracle), schedule, x, times, GivenNoise())
        errors.append(
            (x_s - oracle.ode_map(x, schedule.at(times[0]), schedule.at(times[-1])))
            .abs()
            .max()
            .item()
        )
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("sampler", ODES, ids=name)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_error_falls_with_the_declared_order(sampler, schedule):
    assert measured_order(sampler, schedule) == pytest.approx(sampler.order, abs=0.15)


@pytest.mark.parametrize("sampler", ODES, ids=name)
def test_backwards_the_order_is_the_same(sampler):
    def rising(schedule, steps):
        return equal_log_snr_steps(schedule, steps).flip(0)

    assert measured_order(sampler, Cosine(), rising) == pytest.approx(sampler.order, abs=0.15)


@pytest.mark.parametrize("sampler", ODES, ids=name)
def test_the_order_holds_on_uneven_steps(sampler):
    def uneven(schedule, steps):
        warp = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        ends = schedule.log_snr(torch.tensor([0.98, 0.02], dtype=torch.float64))
        warp = (warp + 0.15 * (2 * math.pi * warp).sin() / (2 * math.pi) + warp**2) / 2
        return schedule.time(torch.lerp(*ends, warp))

    assert measured_order(sampler, Cosine(), uneven) == pytest.approx(sampler.order, abs=0.15)


class _WrongSecondTime(Heun):
    """The second slope taken at the old time: a slip that looks right and runs."""

    def step(self, denoise, x_t, now, after, noise, past):
        calls = []

        def stale(x, level):
            calls.append(level)
            return denoise(x, calls[0])

        return super().step(stale, x_t, now, after, noise, past)


class _WrongAlpha(DDIM):
    """``alpha_t`` for ``alpha_s`` in front of ``x0_hat``."""

    def step(self, denoise, x_t, now, after, noise, past):
        wrong = (now.alpha - after.alpha) * denoise(x_t, now)
        return super().step(denoise, x_t, now, after, noise, past) + wrong


class _ForgetfulUniPC(UniPC):
    """One estimate too few remembered: the corrector is one order short."""

    memory = 1


class _ForgetfulDPMpp2M(DPMpp2M):
    memory = 0


@pytest.mark.parametrize(
    "bug", [_WrongSecondTime, _WrongAlpha, _ForgetfulUniPC, _ForgetfulDPMpp2M]
)
def test_the_measured_order_shows_a_bug(bug):
    assert measured_order(bug(steps=1), Cosine()) < bug.order - 0.5


@pytest.mark.parametrize("sampler", ALL + VARIANTS, ids=name)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_calls_are_counted_right(sampler, steps):
    calls = []

    def counting(x_t, level):
        calls.append(level)
        return torch.zeros_like(x_t)

    sampler = with_settings(sampler, steps=steps)
    sample(sampler, counting, Cosine(), (2, 1), noise64())
    assert len(calls) == sampler.calls


@dataclass(frozen=True, kw_only=True)
class _Counting(Cosine):
    """Counts how often a noise level is worked out."""

    seen: list = field(default_factory=list, compare=False)

    def unclipped_log_snr(self, t):
        self.seen.append(t)
        return super().unclipped_log_snr(t)


@pytest.mark.parametrize("sampler", ALL + VARIANTS, ids=name)
def test_a_noise_level_is_worked_out_once(sampler, make_denoiser):
    """By sampler, guidance and denoiser together; also where a step goes to a level of its own."""
    sampled = _Counting()
    conditioning = OneHot(["a", "b", "c"], dim=8, drop=0.1)
    guidance = CFG(scale=2.0, log_snr_range=(-3.0, 3.0))
    for trained in (sampled, Flow()):
        denoiser = make_denoiser(schedule=trained, conditioning=conditioning)
        denoiser.reaches = frozenset(Reach)
        sampled.seen.clear()
        method = with_settings(sampler, steps=10, grid=Uniform())
        denoise = guidance(denoiser, torch.tensor([0, 2]))
        sample(method, denoise, sampled, (2, 1, 8, 8), SampleNoise([0, 1]))
        # Eleven levels, the one where noise is first drawn, and both ends of the schedule.
        assert len(sampled.seen) <= 13


@pytest.mark.parametrize("sampler", ALL + VARIANTS, ids=name)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("steps", [1, 7])
def test_data_of_no_width_is_found_exactly(sampler, schedule, steps):
    sampler = with_settings(sampler, steps=steps)
    x = sample(sampler, gaussian(std=0.0), schedule, (64, 1), noise64())
    zero = f64(0.0)
    # What remains is the noise that the schedule leaves at t = 0.
    left = (x - schedule.alpha(zero) * 0.3) / schedule.sigma(zero)
    assert left.abs().max() < 5


@pytest.mark.parametrize("sampler", ODES, ids=name)
@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=repr)
def test_whole_runs_solve_the_ode(sampler, schedule):
    """From pure noise to t = 0, with the ends where other code divides by zero."""
    oracle = gaussian()
    eps = torch.linspace(-2, 2, 5, dtype=torch.float64).unsqueeze(1)
    sampler = with_settings(sampler, steps=100, grid=Karras())
    times = sampler.times(schedule)
    x = sample(sampler, oracle, schedule, eps.shape, GivenNoise(eps))
    std = (schedule.alpha(times[0]) ** 2 + schedule.sigma(times[0]) ** 2).sqrt()
    exact = oracle.ode_map(std * eps, schedule.at(times[0]), schedule.at(times[-1]))
    torch.testing.assert_close(x, exact, rtol=0, atol=0.05 if sampler.order == 1 else 2e-3)


@pytest.mark.parametrize("sampler", SDES, ids=name)
@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=repr)
def test_stochastic_samplers_reproduce_a_gaussian(sampler, schedule):
    oracle, n = gaussian(), 20_000
    sampler = with_settings(sampler, steps=200, grid=Karras(sigma_min=0.02))
    if isinstance(sampler, StochasticHeun):
        sampler = with_settings(sampler, inflate=1.0)
    x = sample(sampler, oracle, schedule, (n, 1), noise64())
    # Standard errors of mean and variance are 0.0035 and 1%; first order adds a bias of 5%.
    assert x.mean().item() == pytest.approx(0.3, abs=4 * 0.5 / n**0.5)
    assert x.var().item() == pytest.approx(0.25, rel=0.07 if sampler.order == 1 else 0.03)
    kurtosis = ((x - x.mean()) ** 4).mean() / x.var() ** 2
    assert kurtosis.item() == pytest.approx(3, abs=4 * (24 / n) ** 0.5)


@pytest.mark.parametrize("sampler", ALL + VARIANTS, ids=name)
def test_samplers_reproduce_a_mixture_in_two_dimensions(sampler):
    schedule, n, std = Cosine(), 6_000, 0.1
    means = torch.tensor([[-0.6, -0.3], [0.6, -0.3], [0.0, 0.7]], dtype=torch.float64)
    # The oracle finds where a long step ends by many short ones.
    steps = 60 if sampler.reach is Reach.HERE else 3
    sampler = with_settings(sampler, steps=steps, grid=Karras(sigma_min=0.02))
    x = sample(sampler, FiniteOracle(points=means, std=std), schedule, (n, 2), noise64())
    nearest = torch.cdist(x, means).argmin(1)
    for k, mean in enumerate(means):
        cluster = x[nearest == k]
        assert len(cluster) / n == pytest.approx(1 / 3, abs=4 * (2 / 9 / n) ** 0.5)
        slack = 2 if sampler.order == 1 else 1
        torch.testing.assert_close(cluster.mean(0), mean, rtol=0, atol=0.01 * slack)
        torch.testing.assert_close(
            cluster.T.cov() / std**2, torch.eye(2, dtype=torch.float64), rtol=0, atol=0.12 * slack
        )


def exact_moments(sampler: Sampler, schedule, times) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of a one-call sampler on the Gaussian oracle, without a single draw.

    Its step is affine, ``x_s = a x_t + b + c noise``, so three evaluations give all of it.
    """
    oracle = gaussian()
    std2 = schedule.alpha(times[0]) ** 2 * 0.25 + schedule.sigma(times[0]) ** 2
    mean, variance = schedule.alpha(times[0]) * 0.3, std2
    for t, s in pairwise(times):
        b, ab, cb = (
            sampler.step(oracle, x, schedule.at(t), schedule.at(s), GivenNoise(z), ())
            for x, z in [(f64(0.0), f64(0.0)), (f64(1.0), f64(0.0)), (f64(0.0), f64(1.0))]
        )
        mean, variance = (ab - b) * mean + b, (ab - b) ** 2 * variance + (cb - b) ** 2
    return mean, variance


@pytest.mark.parametrize("sampler", [DDPM(steps=1), DDIM(steps=1, eta=1.0)], ids=name)
def test_ancestral_sampling_has_the_mean_at_any_steps_and_a_variance_bias_of_order_one(sampler):
    schedule, biases = Cosine(), []
    for steps in (64, 256, 1024):
        times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        mean, variance = exact_moments(sampler, schedule, times)
        end = schedule.alpha(times[-1]) ** 2 * 0.25 + schedule.sigma(times[-1]) ** 2
        torch.testing.assert_close(mean, schedule.alpha(times[-1]) * 0.3, rtol=0, atol=1e-12)
        biases.append((variance / end - 1).item())
    assert all(bias < 0 for bias in biases)
    for coarse, fine in pairwise(biases):
        assert coarse / fine == pytest.approx(4, rel=0.15)


def test_ddpm_is_ddim_at_eta_one():
    schedule = Cosine()
    denoise = FiniteOracle(points=torch.randn(5, 1, 4, 4, dtype=torch.float64), std=0.1)
    x, y, z = (
        sample(sampler, denoise, schedule, (3, 1, 4, 4), noise64())
        for sampler in (
            DDPM(steps=20),
            DDIM(steps=20, eta=1.0),
            DDIM(steps=20, eta=0.9),
        )
    )
    torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(x, z, atol=1e-3)


def test_first_steps_of_the_multistep_sde_are_ancestral():
    schedule, oracle = Cosine(), gaussian()
    x = torch.randn(4, 1, dtype=torch.float64)
    for t, s in [(0.9, 0.7), (0.5, 0.1), (0.2, 0.0)]:
        ddpm, sde = (
            sampler.step(oracle, x, schedule.at(f64(t)), schedule.at(f64(s)), noise64(), ())
            for sampler in (DDPM(steps=1), DPMpp2M(steps=1, eta=1.0))
        )
        torch.testing.assert_close(sde, ddpm)


def test_euler_in_the_noise_level_is_ddim(schedule):
    denoise = FiniteOracle(points=torch.randn(5, 1, 4, 4, dtype=torch.float64), std=0.1)
    x, y = (
        sample(sampler, denoise, schedule, (3, 1, 4, 4), noise64())
        for sampler in (Euler(steps=12), DDIM(steps=12))
    )
    torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("h", [1e-8, -1e-8, 1e-4, 0.3, -0.3, 0.999, 1.001, 5.0, -5.0])
@pytest.mark.parametrize("places", [[0.0], [0.0, -0.7], [0.0, -0.7, -1.1], [1.0, 0.0, -2.0]])
def test_the_integrals_of_multistep_solvers_are_exact_for_polynomials(h, places):
    start, coefficients = 1.3, [0.4, -1.0, 0.8][: len(places)]
    weights = _adams([start + place * h for place in places], start, start + h)
    # Both in tau = (lam - start) / h, by a quadrature of much higher order.
    tau, share = np.polynomial.legendre.leggauss(20)
    tau, share = (tau + 1) / 2, share / 2
    values = np.polynomial.polynomial.polyval(tau, coefficients)
    exact = (share * h * np.exp(h * (tau - 1)) * values).sum()
    at_places = np.polynomial.polynomial.polyval(np.array(places), coefficients)
    assert weights.numpy() @ at_places == pytest.approx(exact, rel=1e-6)


def test_without_churn_edm_is_heun():
    schedule, oracle = Cosine(), gaussian()
    x, y, z = (
        sample(sampler, oracle, schedule, (3, 1), noise64())
        for sampler in (
            Heun(steps=12),
            StochasticHeun(steps=12, churn=0.0),
            StochasticHeun(steps=12, churn=1.0),
        )
    )
    assert torch.equal(x, y)
    assert not torch.allclose(x, z)


@pytest.mark.parametrize(("level", "acts"), [(0.4, False), (0.6, True), (1.9, True), (2.1, False)])
def test_churn_acts_between_its_bounds_alone(level, acts):
    schedule, x = Cosine(), torch.ones(1, 1, dtype=torch.float64)
    sampler = StochasticHeun(steps=10, churn_min=0.5, churn_max=2.0)
    now, after = (schedule.at_log_snr(-2 * f64(u).log()) for u in (level, 0.7 * level))
    draw = torch.ones(1, 1, dtype=torch.float64)
    noise = GivenNoise(draw)
    sampler.step(gaussian(), x, now, after, noise, ())
    assert len(noise.draws) == (0 if acts else 1)


def test_inflated_churn_is_churn_with_larger_noise():
    x, draw = torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), 0.7)
    now, after = Cosine().at(f64(0.5)), Cosine().at(f64(0.4))
    plain, twice = (
        StochasticHeun(steps=10, inflate=inflate).step(
            gaussian(), x, now, after, GivenNoise(noise.double()), ()
        )
        for inflate, noise in [(1.0, 2 * draw), (2.0, draw)]
    )
    torch.testing.assert_close(twice, plain)


@pytest.mark.parametrize("sampler", ALL + VARIANTS, ids=name)
def test_one_seed_is_one_image_alone_or_in_a_batch(sampler):
    schedule = Cosine()
    denoise = FiniteOracle(points=torch.randn(5, 1, 4, 4), std=0.1)
    sampler = with_settings(sampler, steps=8 if sampler.reach is Reach.HERE else 1)
    together = sample(sampler, denoise, schedule, (8, 1, 4, 4), SampleNoise(range(8)))
    for seed in (0, 5):
        alone = sample(sampler, denoise, schedule, (1, 1, 4, 4), SampleNoise([seed]))
        torch.testing.assert_close(alone[0], together[seed], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[5], atol=1e-2)


@pytest.mark.parametrize("sampler", ALL + VARIANTS, ids=name)
def test_samples_keep_the_dtype_of_the_noise(sampler):
    denoise = FiniteOracle(points=torch.randn(5, 3), std=0.1)
    x = sample(with_settings(sampler, steps=3), denoise, Cosine(), (2, 3), SampleNoise([0, 1]))
    assert x.dtype == torch.float32


@pytest.mark.parametrize("sampler", ALL + VARIANTS, ids=name)
def test_single_precision_is_enough(sampler):
    schedule = Cosine()
    points = torch.randn(5, 4, dtype=torch.float64).clamp(-1, 1)
    start = torch.randn(3, 4, dtype=torch.float64)
    steps = 20 if sampler.reach is Reach.HERE else 2
    sampler = with_settings(sampler, steps=steps, grid=Karras())
    x, x_single = (
        sample(
            sampler,
            FiniteOracle(points=points.to(dtype), std=0.1),
            schedule,
            start.shape,
            GivenNoise(start.to(dtype), then=_Same(dtype)),
        )
        for dtype in (torch.float64, torch.float32)
    )
    torch.testing.assert_close(x_single.double(), x, rtol=0, atol=2e-3)


class _Same:
    """The same draws in either precision."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.source, self.dtype = noise64(1), dtype

    def randn(self, shape):
        return self.source.randn(shape).to(self.dtype)


@pytest.mark.parametrize("sampler", ALL + VARIANTS, ids=name)
def test_times_beyond_the_clip_of_the_schedule_do_no_harm(sampler):
    """Where ``log_snr`` is clipped, neighbouring times share one noise level."""
    schedule = Cosine(max_log_snr=3.0)
    sampler = with_settings(sampler, steps=100, grid=Uniform())
    assert (schedule.log_snr(sampler.times(schedule)).diff() == 0).sum() > 10
    oracle = gaussian()
    x = sample(sampler, oracle, schedule, (5000, 1), noise64())
    assert x.isfinite().all()
    mean = schedule.alpha(f64(0.0)).item() * 0.3
    assert x.mean().item() == pytest.approx(mean, abs=0.05)


@pytest.mark.parametrize("schedule", [Cosine(), Linear(), Flow()], ids=repr)
def test_heun_tells_where_it_blows_up_and_only_there(schedule):
    """What is warned about errs by ten times as much as the best grid for as many calls."""
    oracle, eps = gaussian(std=0.1), torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)

    def error(grid, steps: int) -> float:
        sampler = Heun(steps=steps, grid=grid)
        x = sample(sampler, oracle, schedule, eps.shape, GivenNoise(eps))
        start, end = (schedule.at(sampler.times(schedule)[i]) for i in (0, -1))
        return (x - oracle.ode_map(start.std * eps, start, end)).abs().max().item()

    calm = Logistic()
    for grid in (LogSNR(), Quadratic(), calm, Karras()):
        for steps in (3, 20):
            doubt = Heun(steps=steps, grid=grid).doubt(schedule)
            if error(grid, steps) > 40 * error(calm, steps):
                assert "unstable" in doubt, (grid, steps)
    for steps in (3, 5, 20):
        assert Heun(steps=steps, grid=calm).doubt(schedule) is None
    assert "sampler/grid=logistic" in Heun(steps=3, grid=LogSNR()).doubt(schedule)
    assert UniPC(steps=3, grid=LogSNR()).doubt(schedule) is None


def test_integrate_reports_each_step_and_stops_at_any_time():
    schedule, oracle = Cosine(), gaussian()
    seen = []
    x = torch.ones(2, 1, dtype=torch.float64)
    times = torch.tensor([0.8, 0.6, 0.3], dtype=torch.float64)
    x_s = integrate(
        Heun(steps=99),
        oracle,
        schedule,
        x,
        times,
        GivenNoise(),
        on_step=lambda i, x_s, x0_hat: seen.append((i, x_s, x0_hat)),
    )
    assert [i for i, _, _ in seen] == [1, 2]
    assert torch.equal(seen[-1][1], x_s)
    torch.testing.assert_close(seen[0][2], oracle(x, schedule.at(times[0])))
    two_legs = oracle.ode_map(x, schedule.at(times[0]), schedule.at(times[-1]))
    torch.testing.assert_close(x_s, two_legs, rtol=0, atol=0.1)


def test_denoisers_get_levels_of_any_shape_right():
    """Samplers hand over scalars; per-sample levels mean the same."""
    schedule = Cosine()
    oracle = FiniteOracle(points=torch.randn(5, 4, dtype=torch.float64), std=0.1)

    def per_sample(x_t, level):
        return oracle(x_t, schedule.at(level.t.expand(len(x_t))))

    x, y = (
        sample(UniPC(steps=5), denoise, schedule, (3, 4), noise64())
        for denoise in (oracle, per_sample)
    )
    torch.testing.assert_close(x, y)
    assert expand_like(torch.ones(3), x).shape == (3, 1)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (DDPM, {"steps": 0}, "steps must be at least 1, got 0"),
        (DDIM, {"steps": 5, "eta": 1.5}, r"eta must be in \[0, 1\], got 1.5"),
        (DPMpp2M, {"steps": 5, "eta": -0.1}, r"eta must be in \[0, 1\], got -0.1"),
        (StochasticHeun, {"steps": 5, "churn": -1.0}, "churn >= 0"),
    ],
)
def test_impossible_settings_are_refused(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


def test_noise_sources_refuse_what_they_cannot_give():
    with pytest.raises(ValueError, match="2 seeds for a batch of 3"):
        SampleNoise([0, 1]).randn(torch.Size((3, 1)))
    noise = GivenNoise(torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"is \(2, 1\), not \(3, 1\)"):
        noise.randn(torch.Size((3, 1)))
    with pytest.raises(ValueError, match="more noise than was given"):
        noise.randn(torch.Size((2, 1)))
