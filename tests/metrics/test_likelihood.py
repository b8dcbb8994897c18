"""Bits per dimension against closed forms; a label that is ignored against one that is used."""

import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import ccdiff
from ccdiff.data import Split
from ccdiff.diffusion.conditioning import MultiHot, OneHot
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.oracle import FiniteOracle, GaussianOracle
from ccdiff.diffusion.schedules import Cosine, Flow, Linear, Schedule
from ccdiff.metrics.label_use import BIN_EDGES, by_level, eps_errors, label_use
from ccdiff.metrics.likelihood import bits_per_dimension, dequantise, log_density

PIXELS = 12
SCHEDULES = [Cosine(), Linear(), Flow()]


def images(n: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 1, 3, 4), generator=generator).to(torch.uint8)


def clean_variance(schedule: Schedule) -> float:
    """``sigma^2 / alpha^2`` where the ODE ends, which is in the model's density."""
    return math.exp(-schedule.log_snr(torch.tensor(0.0, dtype=torch.float64)).item())


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_bits_per_dimension_of_a_gaussian_equal_the_closed_form(schedule):
    mean, std = 0.2, 0.4
    oracle = GaussianOracle(mean=torch.tensor(mean), std=torch.tensor(std))
    generator = torch.Generator().manual_seed(0)
    x0 = dequantise(images(3), generator)
    density = log_density(oracle, schedule, x0, steps=32, generator=generator)
    found = bits_per_dimension(density.value, num_pixels=PIXELS)
    variance = std**2 + clean_variance(schedule)
    nats = ((x0 - mean).square() / variance + math.log(2 * math.pi * variance)) / 2
    # A step between two of the 8-bit values is 1/127.5 in [-1, 1].
    expected = nats.flatten(1).mean(1) / math.log(2) + math.log2(127.5)
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=0)


@pytest.mark.parametrize("std", [0.02, 0.1, 1.0])
def test_the_default_steps_leave_less_than_half_a_thousandth_of_a_bit(std):
    """As many as the command takes; nor is what is left larger than what is stated."""
    cfg = OmegaConf.load(Path(ccdiff.__file__).parents[1] / "conf" / "evaluate.yaml")
    schedule, generator = Cosine(), torch.Generator().manual_seed(0)
    oracle = GaussianOracle(mean=torch.tensor(0.2), std=torch.tensor(std))
    x0 = 0.2 + std * torch.randn(40, 1, 3, 4, generator=generator).double()
    found = log_density(oracle, schedule, x0, steps=cfg.likelihood_steps, generator=generator)
    variance = std**2 + clean_variance(schedule)
    exact = -((x0 - 0.2).square() / variance + math.log(2 * math.pi * variance)).sum((1, 2, 3)) / 2
    bits = PIXELS * math.log(2)
    left = (found.value - exact).abs() / bits
    assert left.mean() < 5e-4
    # The end of the schedule is not quite pure noise.
    assert (left < found.error / bits + 3e-4).all()
    few = log_density(oracle, schedule, x0, steps=8, generator=generator)
    assert (few.error > found.error).all()


def test_bits_per_dimension_of_a_uniform_model_are_eight():
    """A density of 1/2 over [-1, 1] tells no value of 256 from another."""
    log_densities = torch.tensor([PIXELS * math.log(0.5)], dtype=torch.float64)
    bits = bits_per_dimension(log_densities, num_pixels=PIXELS).item()
    assert bits == pytest.approx(8, abs=6e-3), "255 steps to 256 values"


def test_random_signs_find_the_trace_of_a_full_jacobian():
    """Two points in a plane: the density is known, and no axis is that of the pixels.

    In two dimensions there are two estimates, for equal signs and for opposite ones, and the
    trace is their mean.
    """
    schedule = Cosine()
    points = torch.tensor([[0.6, 0.5], [-0.4, -0.7]])
    oracle = FiniteOracle(points=points, std=0.3)
    x0 = torch.tensor([[0.1, 0.2]], dtype=torch.float64).expand(16, 2)
    generator = torch.Generator().manual_seed(0)
    found = log_density(oracle, schedule, x0, steps=96, generator=generator).value
    low, high = found.min(), found.max()
    assert high - low > 0.1
    assert ((found - low < 1e-6) | (high - found < 1e-6)).all()
    variance = 0.3**2 + clean_variance(schedule)
    gaps = (x0[:1, None] - points).square().sum(2) / (2 * variance)
    expected = torch.logsumexp(-gaps, 1) - math.log(2) - math.log(2 * math.pi * variance)
    assert ((low + high) / 2).item() == pytest.approx(expected.item(), abs=1e-3)


def test_dequantising_stays_within_a_step():
    whole = images(50)
    spread = dequantise(whole, torch.Generator().manual_seed(0))
    steps = (spread + 1) * 127.5 - whole
    assert steps.abs().max() <= 0.5
    assert steps.mean().abs() < 0.05
    assert steps.std() == pytest.approx(12**-0.5, rel=0.05)


class LabelOracle(Denoiser):
    """Knows that images of class ``k`` are all ``k / 2``, unless it is blind or told nothing."""

    def __init__(self, *, blind: bool, drop: float = 0.0) -> None:
        super().__init__(
            torch.nn.Linear(1, 1),
            conditioning=OneHot(["a", "b", "c"], dim=4, drop=drop),
            prediction=None,
            schedule=Cosine(),
        )
        self.blind = blind

    def forward(self, x_t: Tensor, level: Level, y: Tensor, drop: Tensor | None = None) -> Tensor:
        told = torch.ones_like(y, dtype=torch.bool) if drop is None else ~drop
        mean = torch.where(told & (not self.blind), y.float() / 2, 0.5)[:, None, None, None]
        return GaussianOracle(mean=mean, std=torch.tensor(0.3))(x_t, level)


class AttributeOracle(LabelOracle):
    """Heeds no attribute."""

    def __init__(self) -> None:
        super().__init__(blind=True)
        self.conditioning = MultiHot(["x", "y"], dim=4)

    def forward(self, x_t: Tensor, level: Level, y: Tensor, drop: Tensor | None = None) -> Tensor:
        return super().forward(x_t, level, y[:, 0].long(), drop)


@pytest.fixture
def split() -> Split:
    y = torch.arange(240) % 3
    generator = torch.Generator().manual_seed(0)
    x0 = y[:, None, None, None] / 2 + 0.3 * torch.randn(240, 1, 4, 4, generator=generator)
    return Split(((x0 + 1) * 127.5).round().clamp(0, 255).to(torch.uint8), y)


@pytest.mark.parametrize("drop", [0.0, 0.1])
def test_a_label_that_is_used_gains(split, drop):
    found = label_use(LabelOracle(blind=False, drop=drop), split, batch_size=50)
    assert found.against == ("null" if drop else "wrong_label")
    assert not found.blind
    assert found.bits.mean() > 0.3
    gains = by_level(found.gain)
    assert len(gains) == len(BIN_EDGES) - 1
    assert gains[3:5].min() > 10 * gains[-1].abs(), "at the clean end labels tell nothing new"


@pytest.mark.parametrize("drop", [0.0, 0.1])
def test_a_label_blind_model_is_flagged(split, drop):
    found = label_use(LabelOracle(blind=True, drop=drop), split, batch_size=50)
    assert found.blind
    assert found.certainty == 0
    assert found.bits.mean() == 0


def test_nothing_is_said_of_labels_where_nothing_could_show_their_use(split):
    few = label_use(LabelOracle(blind=True), split.take(8), batch_size=50)
    assert not few.blind, "eight images foreseen better, of eight, would be no proof"
    same = Split(split.images, torch.zeros(len(split), 2, dtype=torch.uint8))
    alike = label_use(AttributeOracle(), same, batch_size=50)
    assert alike.certainty == 0
    assert not alike.blind, "all have the same attributes"


def test_a_model_that_takes_labels_for_others_is_flagged(split):
    shuffled = Split(split.images, (split.labels + 1) % 3)
    assert label_use(LabelOracle(blind=False), shuffled, batch_size=50).certainty < 0


def test_label_bits_are_at_most_those_of_the_label(split):
    """The ideal model's gain over all levels is the mutual information, log2 3 for three classes.

    Here the model without a label is not the ideal one, so it may lose a little more.
    """
    found = label_use(LabelOracle(blind=False, drop=0.1), split, batch_size=240)
    expected = 16 * ((split.labels / 2 - 0.5).square().mean() / (2 * 0.09) / math.log(2)).item()
    assert found.bits.mean().item() == pytest.approx(expected, rel=0.25)


def test_attributes_are_compared_with_those_of_others(make_denoiser):
    denoiser = make_denoiser(conditioning=MultiHot(["x", "y"], dim=8)).eval()
    labels = (torch.rand(24, 2) < 0.5).to(torch.uint8)
    split = Split(torch.randint(256, (24, 1, 8, 8)).to(torch.uint8), labels)
    found = label_use(denoiser, split, batch_size=10)
    assert found.against == "wrong_label"
    assert found.gain.abs().max() > 0


def test_errors_do_not_depend_on_the_batch(make_denoiser):
    denoiser = make_denoiser().eval()
    split = Split(torch.randint(256, (20, 1, 8, 8)).to(torch.uint8), torch.arange(20) % 3)
    whole = eps_errors(denoiser, split, batch_size=20)
    torch.testing.assert_close(eps_errors(denoiser, split, batch_size=7), whole)
