"""Fitted coefficients, on a ring of wide Gaussians whose exact denoiser is known."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from ccdiff.diffusion.oracle import FiniteOracle
from ccdiff.diffusion.samplers import (
    DDIM,
    DDPM,
    DPMpp2M,
    Euler,
    FittedMultistep,
    GivenNoise,
    Heun,
    UniPC,
    integrate,
    sample,
)
from ccdiff.diffusion.samplers.coefficients import Batch, fit_coefficients
from ccdiff.diffusion.samplers.fitted import linear_form
from ccdiff.diffusion.samplers.fitting import fine_solution, fit_levels, rms_to
from ccdiff.diffusion.samplers.grids import Fitted, Karras, Logistic
from ccdiff.diffusion.schedules import Cosine, Flow
from ccdiff.errors import UserError

SCHEDULE = Cosine()
ANGLES = torch.arange(8) * math.pi / 4
RING = FiniteOracle(points=torch.stack([ANGLES.cos(), ANGLES.sin()], 1).double(), std=0.2)


def noise(seed: int, n: int = 160) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=generator, dtype=torch.float64)


@cache
def solution(seed: int) -> Tensor:
    return fine_solution(RING, SCHEDULE, noise(seed), steps=100)


def batches(*, size: int = 80) -> list[Batch]:
    pairs = zip(noise(0).split(size), solution(0).split(size), strict=True)
    return [Batch(RING, *pair) for pair in pairs]


def starts(steps: int) -> list:
    return [cls(steps=steps, grid=Logistic()) for cls in (UniPC, DPMpp2M, DDIM)]


def drawn(sampler, schedule=SCHEDULE) -> Tensor:
    eps = noise(1)
    return sample(sampler, RING, schedule, eps.shape, GivenNoise(eps))


@pytest.mark.parametrize("start", [*starts(4), Euler(steps=4), UniPC(steps=1)], ids=repr)
def test_every_multistep_method_has_the_form(start):
    """So the search begins with the method itself, and can only improve on it."""
    same = fit_coefficients([start], SCHEDULE, batches(), rounds=0)
    torch.testing.assert_close(drawn(same), drawn(start), rtol=0, atol=1e-9)
    levels, weights = linear_form(start, SCHEDULE)
    assert weights.shape == (start.steps + 1, start.steps + 1)
    assert weights.triu(1).eq(0).all()
    assert weights[0, 0] == 1
    assert (levels.diff() > 0).all()


def test_another_schedule_meets_the_same_levels():
    fitted = fit_coefficients(starts(4), SCHEDULE, batches(), rounds=1)
    torch.testing.assert_close(drawn(fitted, Flow()), drawn(fitted), rtol=0, atol=2e-3)
    with pytest.raises(UserError, match="this schedule does not reach"):
        drawn(fitted, Cosine(min_log_snr=-3.0))


@pytest.mark.parametrize("steps", [3, 5])
def test_fitted_coefficients_beat_fitted_times_on_noise_they_never_saw(steps):
    eps = noise(1)
    exact = solution(1)
    known = batches()
    left = []
    fitted = fit_coefficients(starts(steps), SCHEDULE, known, rounds=6, on_round=left.append)
    assert len(left) <= 6 + 9
    error = rms_to(exact, fitted, RING, SCHEDULE, eps)
    for start in starts(steps)[:2]:
        levels = fit_levels(start, RING, SCHEDULE, known[0].eps, known[0].exact, tries=30)
        times = replace(start, grid=Fitted(levels=levels))
        assert error < 0.7 * rms_to(exact, times, RING, SCHEDULE, eps)


def test_batches_are_but_a_matter_of_memory():
    whole, pieces = (
        fit_coefficients([UniPC(steps=3)], SCHEDULE, batches(size=size), rounds=2)
        for size in (160, 40)
    )
    assert whole.coefficients is not None
    for row, other in zip(whole.coefficients, pieces.coefficients, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-6)


def test_it_goes_no_other_way_than_that_it_was_fitted_for():
    fitted = fit_coefficients([UniPC(steps=3)], SCHEDULE, batches(), rounds=1)
    some = torch.tensor([0.6, 0.3, 0.0], dtype=torch.float64)
    with pytest.raises(UserError, match="in the 3 steps that it was fitted for"):
        integrate(fitted, RING, SCHEDULE, noise(1), some, GivenNoise())
    with pytest.raises(ValueError, match=r"one row for each of sampler\.steps=4"):
        replace(fitted, steps=4)
    with pytest.raises(UserError, match="leave sampler/grid as it is"):
        replace(fitted, grid=Karras())
    with pytest.raises(ValueError, match="finite"):
        replace(fitted, coefficients=[[1.0, math.nan], [1.0, 0, 0], [1.0, 0, 0, 0]])


def test_what_cannot_be_fitted_is_told():
    for start in (DDPM(steps=3), Heun(steps=3)):
        with pytest.raises(UserError, match="draws noise or takes more than a call"):
            fit_coefficients([start], SCHEDULE, batches(), rounds=1)
    assert "ccdiff.fit" in (FittedMultistep(steps=3).missing() or "")
