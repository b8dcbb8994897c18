import pytest
import torch

from ccdiff.diffusion.denoiser import bind_label
from ccdiff.diffusion.oracle import FiniteOracle, GaussianOracle
from ccdiff.diffusion.rescheduling import reschedule
from ccdiff.diffusion.samplers import GivenNoise, Heun, UniPC, integrate, sample
from ccdiff.diffusion.samplers.grids import Karras
from ccdiff.diffusion.schedules import Cosine, Flow, Linear

PAIRS = [(Cosine(), Flow()), (Flow(), Cosine()), (Linear(), Cosine()), (Cosine(), Linear())]


def f64(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("trained", "sampled"), PAIRS, ids=repr)
@pytest.mark.parametrize("per_sample", [False, True])
def test_a_rescheduled_oracle_is_the_oracle_of_the_other_schedule(trained, sampled, per_sample):
    points = torch.randn(4, 3, dtype=torch.float64)
    moved = reschedule(FiniteOracle(trained, points, 0.1), trained=trained, sampled=sampled)
    exact = FiniteOracle(sampled, points, 0.1)
    x = torch.randn(5, 3, dtype=torch.float64)
    for t in (0.1, 0.5, 0.9):
        time = torch.full((5,), t).double() if per_sample else f64(t)
        torch.testing.assert_close(moved(x, time), exact(x, time), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("trained", "sampled"), PAIRS, ids=repr)
def test_sampling_under_another_schedule_solves_its_ode(trained, sampled):
    mean, std = f64(0.3), f64(0.5)
    moved = reschedule(GaussianOracle(trained, mean, std), trained=trained, sampled=sampled)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64).unsqueeze(1)
    times = torch.linspace(0.9, 0.05, 65, dtype=torch.float64)
    x_s = integrate(UniPC(steps=64), moved, sampled, x, times, GivenNoise())
    exact = GaussianOracle(sampled, mean, std).ode_map(x, times[0], times[-1])
    torch.testing.assert_close(x_s, exact, rtol=0, atol=0.01)
    wrong = integrate(
        UniPC(steps=64), GaussianOracle(trained, mean, std), sampled, x, times, GivenNoise()
    )
    assert (wrong - exact).abs().max() > 0.1


def test_on_a_grid_of_noise_levels_the_schedule_makes_no_difference():
    """One noise and one set of levels: the same images, whatever the path between scales."""
    points, eps = torch.randn(4, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    trained = Cosine()
    images = []
    for sampled in (Cosine(), Flow()):
        moved = reschedule(FiniteOracle(trained, points, 0.1), trained=trained, sampled=sampled)
        sampler = Heun(steps=8, grid=Karras(sigma_max=20.0, sigma_min=0.02))
        x = sample(sampler, moved, sampled, eps.shape, GivenNoise(eps))
        images.append(x / sampled.alpha(f64(0.0)))
    torch.testing.assert_close(images[0], images[1], rtol=0, atol=1e-6)


def test_the_schedule_of_training_changes_nothing():
    oracle = GaussianOracle(Cosine(), f64(0.3), f64(0.5))
    assert reschedule(oracle, trained=Cosine(), sampled=Cosine()) is oracle


def test_levels_that_training_never_saw_become_the_nearest_it_saw():
    """Pure noise of a schedule that goes further stays of the size that the network knows."""
    seen = []

    def denoise(x_t, t):
        seen.append((x_t, t))
        return x_t

    trained, sampled = Linear(), Cosine()
    assert sampled.log_snr(f64(1.0)) < trained.log_snr(f64(1.0)) - 1
    x = torch.randn(1000, 3, dtype=torch.float64)
    reschedule(denoise, trained=trained, sampled=sampled)(x, f64(1.0))
    ((moved, t),) = seen
    torch.testing.assert_close(t, f64(1.0))
    torch.testing.assert_close(moved.std().item(), x.std().item(), rtol=1e-3, atol=0)


def test_a_denoiser_is_asked_for_the_same_noise_level(make_denoiser):
    denoiser = make_denoiser(schedule=Cosine())
    other = make_denoiser(denoiser.network, conditioning=denoiser.conditioning, schedule=Flow())
    x, y = torch.randn(2, 1, 8, 8), torch.tensor([0, 2])
    moved = reschedule(bind_label(denoiser, y), trained=Cosine(), sampled=Flow())
    for t in (0.2, 0.5, 0.8):
        expected = other(x, f64(t), y)
        torch.testing.assert_close(moved(x, f64(t)), expected, rtol=1e-4, atol=1e-4)
