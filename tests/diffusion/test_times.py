from math import log, sqrt

import pytest
import torch

from ccdiff.diffusion.schedules import Flow
from ccdiff.diffusion.times import LogitNormal, Stratified, UniformTimes

# Kolmogorov and Smirnov: sqrt(n) times the largest gap between the distribution functions exceeds
# this with probability one in a thousand.
KS_BOUND = 1.95


def ks(uniform: torch.Tensor) -> float:
    """sqrt(n) times the largest gap to the uniform distribution function, for values [n]."""
    values = uniform.double().sort().values
    n = len(values)
    ranks = torch.arange(n + 1, dtype=torch.float64) / n
    gap = torch.maximum((values - ranks[:-1]).abs(), (values - ranks[1:]).abs()).max()
    return sqrt(n) * float(gap)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_times_are_float32_in_the_unit_interval(time_density):
    for n in (1, 7, 4096):
        t = time_density(n, seeded(0))
        assert t.shape == (n,)
        assert t.dtype == torch.float32
        assert ((t >= 0) & (t <= 1)).all()


def test_times_come_from_the_generator_alone(time_density):
    generator = seeded(1)
    first = time_density(64, generator)
    torch.rand(3)  # the global stream has no say
    assert torch.equal(first, time_density(64, seeded(1)))
    assert not torch.equal(first, time_density(64, generator))
    assert not torch.equal(first, time_density(64, seeded(2)))


def test_uniform_times_are_uniform():
    assert ks(UniformTimes()(20_000, seeded(0))) < KS_BOUND


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-1.2, 1.2), (1.0, 0.5)])
def test_logit_normal_times_have_normal_logits(mean, std):
    t = LogitNormal(mean=mean, std=std)(20_000, seeded(0)).double()
    logits = (t / (1 - t)).log()
    assert ks(torch.special.ndtr((logits - mean) / std)) < KS_BOUND


def test_logit_normal_is_the_noise_level_density_of_edm():
    # Karras et al., 2022, table 1: ln(sigma) is normal with mean -1.2 and deviation 1.2.
    flow, t = Flow(), LogitNormal(mean=-1.2, std=1.2)(20_000, seeded(0)).double()
    log_sigma = (flow.sigma(t) / flow.alpha(t)).log()
    assert abs(float(log_sigma.mean()) + 1.2) < 5 * 1.2 / sqrt(20_000)
    assert abs(log(float(log_sigma.std()) / 1.2)) < 5 / sqrt(2 * 20_000)


@pytest.mark.parametrize("n", [1, 2, 7, 64, 1000])
def test_stratified_times_fall_one_into_each_cell(n):
    t = Stratified()(n, seeded(0))
    assert torch.equal((t * n).long().sort().values, torch.arange(n))


def test_stratified_times_are_uniform_and_steadier_in_the_mean():
    generator = seeded(0)
    batches = torch.stack([Stratified()(8, generator) for _ in range(2500)])
    assert ks(batches[:, 3] * 8 - 3) < KS_BOUND  # and uniform within its cell
    # The mean of one uniform time in each of n cells has variance 1 / (12 n^3), not 1 / (12 n).
    variance = float(batches.double().mean(1).var())
    assert abs(log(variance * 12 * 8**3)) < 5 * sqrt(2 / 2500)


def test_a_bad_deviation_is_refused_with_the_value():
    with pytest.raises(ValueError, match=r"-0\.5"):
        LogitNormal(std=-0.5)
