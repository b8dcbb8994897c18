import math

import pytest
import torch
from parts import instances

from ccdiff.diffusion.samplers.grids import (
    Fitted,
    Grid,
    Karras,
    Logistic,
    LogSNR,
    Quadratic,
    Trailing,
    Uniform,
)
from ccdiff.diffusion.schedules import Cosine, Flow, Linear
from ccdiff.errors import UserError

GRIDS = instances(Grid)


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
    if isinstance(grid, Fitted):
        limit = math.exp(-grid.levels[0] / 2)
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


def test_logistic_levels_share_a_logistic_distribution():
    times = Logistic(loc=1.0, scale=2.0)(Cosine(), 8)
    shares = torch.sigmoid((Cosine().log_snr(times) - 1.0) / 2.0)
    torch.testing.assert_close(shares.diff(), shares.diff().mean().expand(8), rtol=1e-6, atol=0)
    flow = Logistic(loc=0.0, scale=2.0, sigma_max=1e9)(Flow(), 8)
    torch.testing.assert_close(flow, Uniform()(Flow(), 8), rtol=0, atol=1e-3)


def test_a_fitted_grid_stops_where_it_was_told():
    levels = [-6.0, -1.0, 0.5, 4.0]
    times = Fitted(levels=levels)(Cosine(), 4)
    torch.testing.assert_close(Cosine().log_snr(times[:-1]).tolist(), levels, rtol=0, atol=1e-6)
    # Twice the steps stop there too, and half-way between.
    finer = Cosine().log_snr(Fitted(levels=levels)(Cosine(), 8)[:-1]).tolist()
    torch.testing.assert_close(finer[::2], levels, rtol=0, atol=1e-6)
    torch.testing.assert_close(finer[1], -3.5, rtol=0, atol=1e-6)


def test_a_grid_that_was_never_fitted_says_how_to():
    with pytest.raises(UserError, match=r"python -m ccdiff\.fit run="):
        Fitted(levels=None)
    for levels in ([1.0, 0.0], [0.0, 0.0], [0.0, math.inf]):
        with pytest.raises(ValueError, match="must rise"):
            Fitted(levels=levels)
