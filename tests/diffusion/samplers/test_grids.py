import pytest
import torch
from parts import concrete

from ccdiff.diffusion.samplers.grids import Grid, Karras, LogSNR, Quadratic, Trailing, Uniform
from ccdiff.diffusion.schedules import Cosine, Flow, Linear
from ccdiff.errors import UserError

GRIDS = [cls() for cls in concrete(Grid)] + [
    Karras(sigma_max=20.0, sigma_min=0.05, rho=3.0),
    Karras(sigma_max=1e9, sigma_min=1e-9),
    LogSNR(sigma_max=1e9, sigma_min=1e-9),
]


def level(schedule, t):
    return (-schedule.log_snr(t) / 2).exp()


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 3, 20, 999])
def test_times_fall_strictly_to_zero(grid, schedule, steps):
    times = grid(schedule, steps)
    assert times.shape == (steps + 1,)
    assert times.dtype == torch.float64
    assert times.device.type == "cpu"
    assert times[-1] == 0
    assert times[0] <= 1
    assert (times.diff() < 0).all()


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_grids_start_at_pure_noise_or_where_they_say(grid, schedule):
    one = torch.ones((), dtype=torch.float64)
    start = grid(schedule, 10)[0]
    limit = getattr(grid, "sigma_max", float("inf"))
    if level(schedule, one) <= limit:
        assert start == 1
    else:
        torch.testing.assert_close(level(schedule, start).item(), limit, rtol=1e-9, atol=0)


def test_uniform_and_quadratic_times():
    assert Uniform()(Cosine(), 4).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert Quadratic()(Cosine(), 4).tolist() == [1, 0.5625, 0.25, 0.0625, 0]


def test_trailing_times_are_those_of_the_discrete_model():
    # The published table: 10 steps of a model of 1000.
    times = Trailing()(Cosine(), 10)
    assert (times * 1000).tolist() == list(range(1000, -1, -100))
    whole = Trailing()(Cosine(), 7) * 1000
    torch.testing.assert_close(whole, whole.round())
    assert (whole / 1000 - Uniform()(Cosine(), 7)).abs().max() <= 0.0005
    with pytest.raises(UserError, match=r"sampler\.steps=1001"):
        Trailing()(Cosine(), 1001)


@pytest.mark.parametrize("schedule", [Cosine(), Linear(), Flow()], ids=repr)
@pytest.mark.parametrize(
    ("grid", "coordinate"),
    [
        (LogSNR(sigma_max=50.0, sigma_min=0.01), torch.log),
        (Karras(sigma_max=50.0, sigma_min=0.01), lambda u: u ** (1 / 7)),
        (Karras(sigma_max=50.0, sigma_min=0.01, rho=2.0), lambda u: u**0.5),
    ],
    ids=["log_snr", "rho 7", "rho 2"],
)
def test_noise_levels_are_equally_spaced_in_the_grid_s_own_measure(schedule, grid, coordinate):
    times = grid(schedule, 9)
    places = coordinate(level(schedule, times[:-1]))
    torch.testing.assert_close(places.diff(), places.diff()[:1].expand(7 + 1), rtol=1e-6, atol=0)
    ends = level(schedule, times[[0, -2]]).tolist()
    torch.testing.assert_close(ends, [50.0, 0.01], rtol=1e-9, atol=0)


def test_bounds_beyond_the_schedule_are_its_ends():
    schedule = Cosine()
    times = Karras(sigma_max=1e9, sigma_min=1e-9)(schedule, 6)
    roots = level(schedule, times) ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff()[:1].expand(6), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (Karras, {"sigma_min": 0.0}),
        (LogSNR, {"sigma_min": 2.0, "sigma_max": 1.0}),
        (Karras, {"rho": 0.0}),
    ],
)
def test_impossible_grids_are_refused(cls, settings):
    with pytest.raises(ValueError, match="grid"):
        cls(**settings)
