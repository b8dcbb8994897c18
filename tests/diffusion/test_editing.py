"""Editing on Gaussians, where the right answer is known."""

import math

import numpy as np
import pytest
import torch

from ccdiff.diffusion.editing import blend, inpaint, invert, rework, slerp
from ccdiff.diffusion.oracle import FiniteOracle, GaussianOracle
from ccdiff.diffusion.samplers import (
    DDIM,
    DDPM,
    BatchNoise,
    DPMpp2M,
    GivenNoise,
    Heun,
    StochasticHeun,
    UniPC,
    sample,
)
from ccdiff.diffusion.samplers.grids import Karras, LogSNR, Uniform
from ccdiff.diffusion.schedules import Cosine, Flow
from ccdiff.errors import UserError

SCHEDULE = Cosine()


def f64(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def noise64(seed: int = 0) -> BatchNoise:
    return BatchNoise(torch.Generator().manual_seed(seed), torch.float64)


class Correlated:
    """The exact denoiser of a Gaussian with a full covariance, for samples [B, D]."""

    def __init__(self, mean: torch.Tensor, covariance: torch.Tensor) -> None:
        self.mean, self.covariance = mean, covariance

    def __call__(self, x_t, level):
        alpha, sigma = level.alpha, level.sigma
        of_x_t = alpha**2 * self.covariance + sigma**2 * torch.eye(len(self.mean)).double()
        gain = alpha * torch.linalg.solve(of_x_t, self.covariance)
        return self.mean + (x_t - alpha * self.mean) @ gain


@pytest.mark.parametrize("sampler", [DDIM, Heun, DPMpp2M, UniPC], ids=lambda cls: cls.__name__)
def test_an_inverted_image_comes_back_at_the_order_of_the_solver(sampler):
    # One hump: between separate ones the flow tears apart what it started with.
    oracle = FiniteOracle(points=0.4 * torch.randn(3, 2, dtype=torch.float64), std=0.4)
    x0 = 0.5 * torch.randn(4, 2, dtype=torch.float64)
    counts, errors = [64, 128, 256], []
    for steps in counts:
        # Evenly from end to end, so that no step stays long as the others shrink.
        method = sampler(steps=steps, grid=LogSNR(sigma_max=1e4, sigma_min=1e-4))
        noise = invert(method, oracle, SCHEDULE, x0)
        back = sample(method, oracle, SCHEDULE, x0.shape, GivenNoise(noise))
        errors.append((back - SCHEDULE.alpha(f64(0.0)) * x0).abs().max().item())
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope > sampler.order - 0.2
    assert errors[-1] < 0.1


def test_inversion_finds_the_noise_that_the_exact_flow_says():
    oracle = GaussianOracle(mean=f64(0.3), std=f64(0.5))
    x0 = torch.linspace(-1, 1, 5, dtype=torch.float64).unsqueeze(1)
    sampler = UniPC(steps=100, grid=Karras())
    noise = invert(sampler, oracle, SCHEDULE, x0)
    start = sampler.times(SCHEDULE)[0]
    clean, noisy = SCHEDULE.at(f64(0.0)), SCHEDULE.at(start)
    exact = oracle.ode_map(clean.alpha * x0, clean, noisy)
    torch.testing.assert_close(noise, exact / noisy.std, rtol=0, atol=2e-3)


def test_inverted_data_are_standard_normal_noise():
    oracle = GaussianOracle(mean=f64(0.3), std=f64(0.5))
    x0 = 0.3 + 0.5 * torch.randn(20_000, 1, dtype=torch.float64)
    noise = invert(Heun(steps=30, grid=Karras()), oracle, SCHEDULE, x0)
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    "sampler",
    [DDPM(steps=5), DDIM(steps=5, eta=0.5), DPMpp2M(steps=5, eta=1.0), StochasticHeun(steps=5)],
    ids=repr,
)
def test_a_random_path_has_no_inverse(sampler):
    with pytest.raises(UserError, match=r"no inverse.*sampler=heun"):
        invert(sampler, lambda x, t: x, SCHEDULE, torch.zeros(1, 1))


@pytest.mark.parametrize(
    "sampler",
    [DDIM(steps=12), UniPC(steps=12), DDPM(steps=12), Heun(steps=12, grid=Karras(sigma_max=20.0))],
    ids=repr,
)
def test_reworking_from_pure_noise_is_plain_sampling(sampler):
    schedule = Cosine(max_log_snr=60.0)
    oracle = FiniteOracle(points=torch.randn(3, 2, dtype=torch.float64), std=0.2)
    x0 = torch.randn(4, 2, dtype=torch.float64)
    plain = sample(sampler, oracle, schedule, x0.shape, noise64())
    reworked = rework(sampler, oracle, schedule, x0, noise64(), start=1.0)
    # A grid that starts below t = 1 leaves a trace of the image.
    alpha = schedule.alpha(sampler.times(schedule)[0]).item()
    torch.testing.assert_close(reworked, plain, rtol=0, atol=1e-9 + 5 * alpha)


@pytest.mark.parametrize(
    "sampler", [Heun(steps=12), UniPC(steps=12), DDPM(steps=12), DDIM(steps=12, grid=Karras())],
    ids=repr,
)  # fmt: skip
def test_reworking_from_almost_no_noise_is_the_identity(sampler):
    oracle = FiniteOracle(points=torch.randn(3, 2, dtype=torch.float64), std=0.2)
    x0 = torch.randn(4, 2, dtype=torch.float64)
    for start in (1e-4, 1e-3, 1e-2):
        x = rework(sampler, oracle, SCHEDULE, x0, noise64(), start=start)
        added = SCHEDULE.sigma(f64(start)).item()
        assert (x - x0).abs().max() < 5 * added


def test_reworking_keeps_the_distribution_of_the_data():
    """Noise of any level and the way back: data stay data, and forget where they came from."""
    oracle = GaussianOracle(mean=f64(0.3), std=f64(0.5))
    x0 = 0.3 + 0.5 * torch.randn(20_000, 1, dtype=torch.float64)
    kept = []
    for start in (0.2, 0.5, 0.8):
        sampler = Heun(steps=40, grid=Karras())
        x = rework(sampler, oracle, SCHEDULE, x0, noise64(1), start=start)
        assert x.mean().item() == pytest.approx(0.3, abs=0.02)
        assert x.std().item() == pytest.approx(0.5, abs=0.01)
        kept.append(torch.corrcoef(torch.cat([x, x0], 1).T)[0, 1].item())
        # The correlation of x_start with x0, since the way back is a monotone map.
        signal = SCHEDULE.alpha(f64(start)).item() * 0.5
        spread = math.hypot(signal, SCHEDULE.sigma(f64(start)).item())
        assert kept[-1] == pytest.approx(signal / spread, abs=0.02)
    assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize("grid", [Uniform(), Karras(), LogSNR()], ids=repr)
@pytest.mark.parametrize("start", [1e-6, 0.03, 0.31, 0.77, 1.0])
def test_reworking_starts_where_it_is_told_and_runs_its_part_of_the_grid(grid, start):
    seen = []

    def denoise(x_t, level):
        seen.append(level.t.item())
        return x_t

    sampler = DDIM(steps=10, grid=grid)
    rework(sampler, denoise, SCHEDULE, torch.zeros(1, 1).double(), noise64(), start=start)
    whole = sampler.times(SCHEDULE)[:-1].tolist()
    assert seen[0] == min(start, whole[0])
    assert seen[1:] == whole[len(whole) - len(seen) + 1 :]
    # No step is much shorter than those of the grid.
    levels = SCHEDULE.log_snr(torch.tensor(seen, dtype=torch.float64)).diff()
    assert (levels > 0.4 * SCHEDULE.log_snr(torch.tensor(whole)).diff().min()).all()


@pytest.mark.parametrize("start", [0.0, -0.1, 1.1])
def test_an_impossible_start_is_refused(start):
    with pytest.raises(UserError, match=r"start must be in \(0, 1\]"):
        rework(DDIM(steps=3), lambda x, t: x, SCHEDULE, torch.zeros(1, 1), noise64(), start=start)


MEAN = torch.tensor([0.2, -0.1], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.3, 0.24], [0.24, 0.3]], dtype=torch.float64)


@pytest.mark.parametrize(("schedule", "jump"), [(Cosine(), 1), (Flow(), 5)], ids=repr)
def test_inpainting_draws_the_unknown_given_the_known(schedule, jump):
    n, seen = 5_000, 0.9
    x0 = torch.tensor([seen, 99.0], dtype=torch.float64).expand(n, 2)
    known = torch.tensor([True, False])
    sampler = DDPM(steps=100, grid=Karras(sigma_max=20.0, sigma_min=0.02))
    denoise = Correlated(MEAN, COVARIANCE)
    mean, variance = {}, {}
    for resamples in (1, 10):
        settings = {"resamples": resamples, "jump": jump}
        x = inpaint(sampler, denoise, schedule, x0, known, noise64(), **settings)
        assert (x[:, 0] == seen).all()
        mean[resamples], variance[resamples] = x[:, 1].mean().item(), x[:, 1].var().item()
    gain = (COVARIANCE[0, 1] / COVARIANCE[0, 0]).item()
    exact = MEAN[1].item() + gain * (seen - MEAN[0].item())
    assert mean[10] == pytest.approx(exact, abs=0.04)
    # Ancestral steps lose some variance; unconditionally it is nearly three times that.
    assert variance[10] == pytest.approx(0.3 - gain * 0.24, rel=0.15)
    # To set the known pixels is not enough: the parts do not agree.
    assert abs(mean[1] - exact) > 3 * abs(mean[10] - exact)


@pytest.mark.parametrize(
    "sampler", [DDPM(steps=6), Heun(steps=6, grid=Karras()), UniPC(steps=6), DPMpp2M(steps=6)],
    ids=repr,
)  # fmt: skip
def test_inpainting_keeps_known_pixels_to_the_bit(sampler):
    oracle = FiniteOracle(points=torch.randn(3, 1, 4, 4), std=0.2)
    x0 = torch.randn(2, 1, 4, 4)
    known = torch.rand(2, 1, 4, 4) < 0.5
    noise = BatchNoise(torch.Generator().manual_seed(0))
    x = inpaint(sampler, oracle, SCHEDULE, x0, known, noise, resamples=2, jump=4)
    assert torch.equal(x[known], x0[known])
    assert not torch.isclose(x[~known], x0[~known]).all()
    assert x.isfinite().all()
    nothing = torch.zeros(1, dtype=torch.bool)
    unseen = inpaint(sampler, oracle, SCHEDULE, x0 * math.nan, nothing, noise, resamples=1)
    assert unseen.isfinite().all()


def test_inpainting_refuses_empty_rounds():
    for settings in ({"resamples": 0}, {"jump": 0}):
        with pytest.raises(UserError, match="at least 1"):
            inpaint(
                DDPM(steps=2),
                lambda x, t: x,
                SCHEDULE,
                torch.zeros(1, 1),
                torch.ones(1, 1, dtype=torch.bool),
                noise64(),
                **settings,
            )


def test_slerp_walks_the_great_circle():
    first, second = torch.randn(2, 5, 1, 16, 16, dtype=torch.float64)
    assert torch.equal(slerp(first, second, 0.0), first)
    torch.testing.assert_close(slerp(first, second, 1.0), second)
    for share in (0.25, 0.5, 0.75):
        between = slerp(first, second, share)
        # Two independent noises are nearly at right angles: the variance stays 1.
        assert between.std().item() == pytest.approx(1, abs=0.05)
        assert torch.lerp(first, second, share).std().item() < 0.85
    unit = torch.eye(2, dtype=torch.float64)
    thirty = slerp(unit[:1], unit[1:], 1 / 3)
    torch.testing.assert_close(
        thirty[0], torch.tensor([math.cos(math.pi / 6), 0.5], dtype=torch.float64)
    )


def test_slerp_takes_a_share_for_each_sample_and_equal_noises():
    first, second = torch.randn(2, 3, 4)
    shares = torch.tensor([0.0, 0.5, 1.0])
    together = slerp(first, second, shares)
    for i, share in enumerate(shares):
        torch.testing.assert_close(together[i], slerp(first, second, share)[i])
    torch.testing.assert_close(slerp(first, first, 0.3), first)
    torch.testing.assert_close(slerp(first, 2 * first, 0.5), 1.5 * first, rtol=1e-3, atol=1e-3)


def test_a_blend_follows_the_weighted_product_of_densities():
    """Of two Gaussians of one width the product is a Gaussian half-way."""
    first, second = (GaussianOracle(mean=f64(mean), std=f64(0.2)) for mean in (-0.6, 0.6))
    shares = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64).repeat_interleave(1000)
    denoise = blend(first, second, shares)
    x = sample(Heun(steps=30, grid=Karras()), denoise, SCHEDULE, (4000, 1), noise64())
    for part, mean in zip(x.chunk(4), (-0.6, -0.3, 0.0, 0.6), strict=True):
        assert part.mean().item() == pytest.approx(mean, abs=0.03)
        assert part.std().item() == pytest.approx(0.2, abs=0.02)
