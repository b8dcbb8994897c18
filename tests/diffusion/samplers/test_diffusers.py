"""The same images as diffusers' schedulers, on one set of alphas and one grid, in float64.

They compute their scales in single precision, so each is handed our exact ones.
"""

from itertools import pairwise

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from ccdiff.diffusion.oracle import FiniteOracle
from ccdiff.diffusion.samplers import (
    DDIM,
    DDPM,
    BatchNoise,
    DPMpp2M,
    Euler,
    GivenNoise,
    Heun,
    Sampler,
    UniPC,
    sample,
)
from ccdiff.diffusion.samplers.fitting import fine_solution
from ccdiff.diffusion.samplers.grids import Grid, Karras, Logistic, Trailing, Uniform
from ccdiff.diffusion.schedules import Linear
from ccdiff.metrics.intervals import Interval
from ccdiff.metrics.judge import Reading
from tests.benchmarks import few_calls

# Not ours: diffusers calls numpy.array on a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# So little noise is left at t = 0 that the image there is exactly clean, as theirs is.
SCHEDULE = Linear(max_log_snr=60.0)
SHAPE = (2, 1, 4, 4)


def oracle() -> FiniteOracle:
    points = torch.randn(5, *SHAPE[1:], generator=torch.Generator().manual_seed(1))
    return FiniteOracle(points=points.double(), std=0.2)


def draws(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(count)]


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def discrete(cls: type, steps: int, **settings):
    """A scheduler over our alphas: its index i is our time (i + 1) / 1000."""
    scheduler = cls(
        prediction_type="sample", clip_sample=False, timestep_spacing="trailing", **settings
    )
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    scheduler.alphas_cumprod = SCHEDULE.alpha(t).square()
    scheduler.set_timesteps(steps)
    return scheduler


def time_of(index: torch.Tensor) -> torch.Tensor:
    return (index.double() + 1) / 1000


@pytest.mark.parametrize("steps", [4, 20])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim(steps, eta):
    scheduler = discrete(DDIMScheduler, steps)
    start, *noises = draws(steps + 1)
    x = start
    for index, noise in zip(scheduler.timesteps, noises, strict=True):
        x0_hat = oracle()(x, SCHEDULE.at(time_of(index)))
        given = {"eta": eta, "variance_noise": noise} if eta > 0 else {}
        x = scheduler.step(x0_hat, index, x, **given).prev_sample
    sampler = DDIM(steps=steps, eta=eta, grid=Trailing())
    assert_same(sample(sampler, oracle(), SCHEDULE, SHAPE, GivenNoise(start, *noises)), x)


@pytest.mark.parametrize("steps", [4, 7, 20])
def test_ddpm(steps):
    scheduler = discrete(DDPMScheduler, steps)
    (start,), generator = draws(1), torch.Generator().manual_seed(3)
    x = start
    for index in scheduler.timesteps:
        x = scheduler.step(
            oracle()(x, SCHEDULE.at(time_of(index))), index, x, generator=generator
        ).prev_sample
    noise = BatchNoise(torch.Generator().manual_seed(3), torch.float64)
    sampler = DDPM(steps=steps, grid=Trailing())
    assert_same(sample(sampler, oracle(), SCHEDULE, SHAPE, GivenNoise(start, then=noise)), x)


def by_noise_levels(cls: type, steps: int, levels: torch.Tensor, **settings):
    """A scheduler that works in ``sigma / alpha``, on a grid of our levels that ends in 0."""
    scheduler = cls(prediction_type="sample", **settings)
    scheduler.set_timesteps(steps)
    # From here on it counts steps; what their times are is the model's concern alone.
    scheduler.set_begin_index(0)
    scheduler.sigmas = levels
    scheduler.is_scale_input_called = True
    return scheduler


def levels(sampler: Sampler) -> torch.Tensor:
    return torch.cat([(-SCHEDULE.log_snr(sampler.times(SCHEDULE)[:-1]) / 2).exp(), torch.zeros(1)])


@pytest.fixture
def in_double(monkeypatch):
    """A step of a scheduler that casts to single precision, with the cast made to double."""

    def step(scheduler, *args, **kwargs) -> torch.Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(torch, "float32", torch.float64)
            return scheduler.step(*args, **kwargs).prev_sample

    return step


GRIDS = pytest.mark.parametrize(
    "grid", [Uniform(), Karras(sigma_max=1e3), Karras(sigma_max=20.0, sigma_min=0.02)], ids=repr
)


@GRIDS
@pytest.mark.parametrize("steps", [1, 2, 12])
def test_euler(grid: Grid, steps, in_double):
    sampler = Euler(steps=steps, grid=grid)
    scheduler = by_noise_levels(EulerDiscreteScheduler, steps, levels(sampler))
    (start,), times = draws(1), sampler.times(SCHEDULE)
    z = start * SCHEDULE.at(times[0]).std / SCHEDULE.alpha(times[0])
    for t, index in zip(times, scheduler.timesteps, strict=False):
        x0_hat = oracle()(SCHEDULE.alpha(t) * z, SCHEDULE.at(t))
        z = in_double(scheduler, x0_hat, index, z)
    assert_same(sample(sampler, oracle(), SCHEDULE, SHAPE, GivenNoise(start)), z)


@GRIDS
@pytest.mark.parametrize("steps", [1, 2, 12])
def test_heun(grid: Grid, steps):
    sampler = Heun(steps=steps, grid=grid)
    u = levels(sampler)
    u_of_calls = torch.cat([u[:1], u[1:-1].repeat_interleave(2), u[-1:]])
    scheduler = by_noise_levels(HeunDiscreteScheduler, steps, u_of_calls)
    (start,), times = draws(1), sampler.times(SCHEDULE)
    z = start * SCHEDULE.at(times[0]).std / SCHEDULE.alpha(times[0])
    calls = [t for pair in pairwise(times) for t in pair][:-1]
    assert len(calls) == sampler.calls == len(scheduler.timesteps)
    for t, index in zip(calls, scheduler.timesteps, strict=True):
        z = scheduler.step(oracle()(SCHEDULE.alpha(t) * z, SCHEDULE.at(t)), index, z).prev_sample
    assert_same(sample(sampler, oracle(), SCHEDULE, SHAPE, GivenNoise(start)), z)


@GRIDS
@pytest.mark.parametrize("steps", [1, 2, 12])
@pytest.mark.parametrize(
    ("eta", "algorithm"), [(0.0, "dpmsolver++"), (1.0, "sde-dpmsolver++")], ids=["ode", "sde"]
)
def test_dpmpp_2m(grid: Grid, steps, eta, algorithm, in_double):
    sampler = DPMpp2M(steps=steps, grid=grid, eta=eta)
    scheduler = by_noise_levels(
        DPMSolverMultistepScheduler, steps, levels(sampler), algorithm_type=algorithm
    )
    start, *noises = draws(steps + 1)
    times = sampler.times(SCHEDULE)
    x = start * SCHEDULE.at(times[0]).std
    for t, index, noise in zip(times, scheduler.timesteps, noises, strict=False):
        given = {"variance_noise": noise} if eta else {}
        x = in_double(scheduler, oracle()(x, SCHEDULE.at(t)), index, x, **given)
    assert_same(sample(sampler, oracle(), SCHEDULE, SHAPE, GivenNoise(start, *noises)), x)


@pytest.mark.parametrize(
    "grid", [Logistic(), Karras(sigma_max=1e3), Karras(sigma_max=20.0, sigma_min=0.02)], ids=repr
)
@pytest.mark.parametrize("steps", [1, 2, 3, 12])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc(grid: Grid, steps, variant, in_double):
    sampler = UniPC(steps=steps, grid=grid, variant=variant)
    settings = {"solver_order": 2, "solver_type": variant, "predict_x0": True}
    u = levels(sampler)
    u[-1] = SCHEDULE.at(torch.tensor(0.0, dtype=torch.float64)).ratio  # By bh1, 0 is no number.
    scheduler = by_noise_levels(UniPCMultistepScheduler, steps, u, **settings)
    (start,), times = draws(1), sampler.times(SCHEDULE)
    x = start * SCHEDULE.at(times[0]).std
    for t, index in zip(times, scheduler.timesteps, strict=False):
        x = in_double(scheduler, oracle()(x, SCHEDULE.at(t)), index, x)
    ours = sample(sampler, oracle(), SCHEDULE, SHAPE, GivenNoise(start))
    assert_same(ours, x)
    exact = sample(UniPC(steps=steps, grid=grid), oracle(), SCHEDULE, SHAPE, GivenNoise(start))
    # A correction in the last step is forgotten there.
    assert torch.allclose(exact, ours, atol=1e-6) is (steps < 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers
def test_the_benchmark_drives_them_to_where_the_ode_leads(monkeypatch):
    schedule, eps = Linear(), torch.randn(4, 1, 2, 2, dtype=torch.float64)
    oracle = FiniteOracle(points=torch.randn(5, 1, 2, 2, dtype=torch.float64), std=0.3)
    exact = fine_solution(oracle, schedule, eps, steps=300)
    wanted = (
        "DPMSolverMultistep 2 use_lu_lambdas",
        "UniPCMultistep 2 bh2 trailing",
        "LMSDiscrete linspace use_karras_sigmas",
        "HeunDiscrete trailing",
    )
    made = {name: one for name, one in few_calls.schedulers(schedule) if name in wanted}
    assert set(made) == set(wanted)
    monkeypatch.setattr(few_calls, "schedulers", lambda schedule: made.items())
    ways = few_calls.compared(oracle, schedule, eps, exact, calls=41)
    assert {way.name for way in ways} >= set(wanted)
    assert all(way.calls <= 41 for way in ways)
    assert all(way.rms < 0.05 for way in ways if way.name in wanted), ways
    assert [way.rms for way in ways] == sorted(way.rms for way in ways)
    best = min(way.rms for way in ways if way.name in wanted)
    (row,) = (line for line in few_calls.table(ways).splitlines() if "ccdiff UniPC " in line)
    ours = next(way.rms for way in ways if way.name == "ccdiff UniPC")
    assert row.split("|")[4].strip() == f"{ours / best:.2f}"
    # Judged are draws anew, of more images, of one spacing for each scheduler.
    few = few_calls.nearest_of_diffusers(ways, 2)
    assert [way.rms for way in few] == sorted(way.rms for way in ways if not way.ours)[:2]
    more = torch.randn(9, 1, 2, 2, dtype=torch.float64)

    def spread(draw):
        x = draw(more, oracle)
        assert len(x) == 9
        return Reading(x.std().item(), Interval(1.0, 2.0))

    lines = few_calls.judged_table(few, spread).splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == [way.name for way in few]
    expected = fine_solution(oracle, schedule, more, steps=300).std().item()
    assert all(abs(float(line.split("|")[4]) - expected) < 0.02 for line in lines)
