"""Fitted grids, on a ring of Gaussians whose exact denoiser is known."""

import math
from dataclasses import replace

import pytest
import torch

from ccdiff.diffusion.oracle import FiniteOracle
from ccdiff.diffusion.samplers import DDIM, DDPM, Heun, Sampler, UniPC
from ccdiff.diffusion.samplers.fitting import fine_solution, fit_levels, rms_to
from ccdiff.diffusion.samplers.grids import Fitted, Karras, Quadratic, Uniform
from ccdiff.diffusion.schedules import Cosine
from ccdiff.errors import UserError

SCHEDULE = Cosine()
ANGLES = torch.arange(8) * math.pi / 4
RING = FiniteOracle(points=torch.stack([ANGLES.cos(), ANGLES.sin()], 1).double(), std=0.05)


def noise(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(48, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sampler", [DDIM(steps=5), UniPC(steps=5), Heun(steps=4)], ids=repr)
def test_a_fitted_grid_beats_every_other_on_noise_it_never_saw(sampler: Sampler):
    known, new = noise(0), noise(1)
    exact, exact_new = (fine_solution(RING, SCHEDULE, eps, steps=200) for eps in (known, new))
    tried = []
    levels = fit_levels(
        sampler, RING, SCHEDULE, known, exact, tries=150, on_try=lambda: tried.append(1)
    )
    assert len(tried) <= 150
    assert len(levels) == sampler.steps

    def error(grid) -> float:
        return rms_to(exact_new, replace(sampler, grid=grid), RING, SCHEDULE, new)

    others = [error(grid) for grid in (Uniform(), Karras(), Quadratic())]
    assert error(Fitted(levels=levels)) < 0.8 * min(others)


def test_the_fine_solution_is_the_limit_of_another_solver():
    eps = noise(0)
    fine = fine_solution(RING, SCHEDULE, eps, steps=400)
    heun = Heun(steps=400, grid=Karras(sigma_max=1e3, sigma_min=1e-3))
    assert rms_to(fine, heun, RING, SCHEDULE, eps) < 2e-3


def test_fitting_is_a_function_of_its_arguments():
    eps = noise(0)
    exact = fine_solution(RING, SCHEDULE, eps, steps=50)
    first, again = (
        fit_levels(UniPC(steps=3), RING, SCHEDULE, eps, exact, tries=25) for _ in range(2)
    )
    assert first == again


def test_a_path_that_draws_noise_is_refused():
    with pytest.raises(UserError, match="sampler=ddpm draws noise"):
        fit_levels(DDPM(steps=5), RING, SCHEDULE, noise(0), noise(0), tries=5)
