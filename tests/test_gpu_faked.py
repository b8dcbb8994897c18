"""What would go wrong on a GPU, found without one: tensors that have a device but no values.

They refuse what mixes devices, and what would have the program wait for a value.
"""

from collections.abc import Iterator

import pytest
import torch
from parts import concrete, instances
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ccdiff.diffusion import schedules, widest
from ccdiff.diffusion.conditioning import MultiHot, OneHot
from ccdiff.diffusion.guidance import CFG, AutoGuidance, Guidance, NoGuidance
from ccdiff.diffusion.levels import Reach
from ccdiff.diffusion.objectives import Denoising, Draw, MeanFlow, Objective, Shortcut
from ccdiff.diffusion.samplers import DDIM, Sampler, sample
from ccdiff.diffusion.samplers.grids import Grid
from ccdiff.diffusion.schedules import Cosine, Linear, Schedule
from ccdiff.diffusion.thresholding import Dynamic, Threshold, Unlimited
from ccdiff.diffusion.times import UniformTimes
from ccdiff.diffusion.weightings import SNR, Weighting
from ccdiff.nn import ViT
from ccdiff.training.muon import Muon
from ccdiff.training.nonfinite import _skips

STEPS = 3


class Faked(TorchDispatchMode):
    """Above a fake mode: what is on the CPU stays real."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        fake = any(isinstance(one, FakeTensor) for one in given)
        if fake or any(isinstance(one, torch.device) and one.type == "cuda" for one in given):
            return func(*args, **kwargs)
        with no_dispatch():
            return func(*args, **kwargs)


class WithoutFloat64(TorchDispatchMode):
    """Has the faked device refuse float64, as a Mac's GPU does."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, FakeTensor) and one.device.type == "cuda":
                assert one.dtype is not torch.float64, f"{func} gives float64 on the device"
        return found


@pytest.fixture
def mac(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(widest, "WITHOUT_FLOAT64", ("cuda",))
    schedules._log_alpha_bar.cache_clear()
    with WithoutFloat64():
        yield


class Small(nn.Module):
    """A network of few operations, which take a while each where their tensors are fake."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.label = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(8, 1)

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor) -> Tensor:
        return self.image(x) + (self.label(tokens.mean(1)) + log_snr[:, None])[..., None, None]


@pytest.fixture
def make_small(make_denoiser):
    """Builds a denoiser around such a network; what a U-Net would wait for is asked once each."""
    return lambda **parts: make_denoiser(Small(), **parts)


class FakeNoise:
    def randn(self, shape: torch.Size) -> torch.Tensor:
        return torch.randn(shape, device="cuda")


@pytest.fixture(autouse=True)
def faked() -> Iterator[None]:
    with FakeTensorMode(allow_non_fake_inputs=True), Faked():
        yield
    schedules._log_alpha_bar.cache_clear()  # It may hold tables without values.


def draw(
    denoiser,
    y: torch.Tensor,
    *,
    sampler: Sampler | None = None,
    guidance: Guidance | None = None,
    threshold: Threshold | None = None,
    schedule: Schedule | None = None,
) -> None:
    """Draws 2 images as ``sample.py`` does."""
    guided = (guidance or NoGuidance())(denoiser.to("cuda").eval(), y.to("cuda"))
    denoise = (threshold or Unlimited())(guided)
    schedule = schedule or denoiser.schedule
    x = sample(sampler or DDIM(steps=STEPS), denoise, schedule, (2, 1, 8, 8), FakeNoise())
    assert x.device.type == "cuda"


@pytest.fixture
def y() -> torch.Tensor:
    return torch.zeros(2, dtype=torch.long)


def test_a_wait_would_be_seen(y):
    with pytest.raises(DataDependentOutputException):
        bool((y.to("cuda") > 0).any())


@pytest.mark.parametrize("cls", concrete(Sampler), ids=lambda cls: cls.__name__)
def test_no_sampler_waits(make_small, y, cls):
    denoiser = make_small()
    denoiser.reaches = frozenset(Reach)  # What it answers is of no account here.
    draw(denoiser, y, sampler=cls(steps=STEPS))


@pytest.mark.parametrize("grid", instances(Grid), ids=repr)
def test_no_grid_waits(make_small, y, grid):
    draw(make_small(), y, sampler=DDIM(steps=STEPS, grid=grid))


def test_no_schedule_waits(make_small, y, schedule):
    draw(make_small(schedule=schedule), y)


def test_no_prediction_waits(make_small, y, prediction):
    draw(make_small(prediction=prediction), y)


@pytest.mark.parametrize("inside", [(-3.0, 3.0), (-float("inf"), float("inf"))])
def test_no_guidance_waits(make_small, y, inside):
    conditioning = OneHot(["a", "b", "c"], dim=8, drop=0.1)
    free = CFG(scale=2.0, log_snr_range=inside, rescale=0.5)
    draw(make_small(conditioning=conditioning), y, guidance=free)
    weak = AutoGuidance(weak=make_small(), scale=2.0, log_snr_range=inside)
    draw(make_small(), y, guidance=weak)


def test_attributes_wait_for_nothing(make_denoiser):
    y = torch.zeros(2, 3, dtype=torch.uint8)
    draw(make_denoiser(conditioning=MultiHot(["a", "b", "c"], dim=8)), y)


def test_no_transformer_waits(make_denoiser, y):
    settings = {"token_dim": 8, "patch": 4, "width": 8, "depth": 1, "head_channels": 8}
    draw(make_denoiser(ViT(1, **settings)), y, sampler=DDIM(steps=1))


def test_neither_threshold_nor_another_schedule_waits(make_denoiser, y):
    draw(make_denoiser(schedule=Cosine()), y, threshold=Dynamic(), schedule=Linear())


def lose(
    denoiser,
    y: torch.Tensor,
    *,
    weighting: Weighting | None = None,
    objective: type[Objective] = Denoising,
) -> None:
    """Takes the loss of 2 images, forward."""
    denoiser = denoiser.to("cuda").train()
    x0, t = torch.randn(2, 1, 8, 8, device="cuda"), torch.rand(2, device="cuda")
    draw = Draw(t, torch.randn_like(x0), torch.zeros(2, device="cuda") > 0, toward=9 * t)
    if objective is MeanFlow:
        draw = draw._replace(ahead=torch.tensor([True, False]))
    if objective is Shortcut:
        draw = draw._replace(ahead=torch.tensor([2, 0]))
    loss = objective(weighting=weighting or SNR(), times=UniformTimes())
    losses = loss.at(denoiser, x0, y.to("cuda"), draw)
    assert losses.device.type == "cuda"


def test_no_loss_waits_for_its_schedule(make_small, y, schedule):
    lose(make_small(schedule=schedule), y)


def test_no_loss_waits_for_its_prediction(make_small, y, prediction):
    lose(make_small(prediction=prediction), y)


def test_no_loss_waits_for_its_weighting(make_small, y, weighting):
    lose(make_small(), y, weighting=weighting)


@pytest.mark.parametrize("objective", concrete(Objective), ids=lambda cls: cls.__name__)
def test_no_objective_waits(make_small, y, objective):
    denoiser = make_small()
    denoiser.reaches = objective.reaches | {Reach.END}  # What it answers is of no account here.
    lose(denoiser, y, objective=objective)


def test_no_loss_waits_for_attributes(make_denoiser):
    y = torch.zeros(2, 3, dtype=torch.uint8)
    lose(make_denoiser(conditioning=MultiHot(["a", "b", "c"], dim=8)), y)


def test_muon_does_not_wait_for_a_step_that_may_be_left_out():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    optimizer = Muon(layers.to("cuda", memory_format=torch.channels_last).parameters())
    for p in layers.parameters():
        p.grad = torch.zeros_like(p)
    assert _skips(optimizer)
    optimizer.found_inf = torch.zeros((), device="cuda")
    optimizer.step()


def test_float64_on_the_device_would_be_seen(mac, y):
    with pytest.raises(AssertionError, match="gives float64"):
        y.to("cuda").double()


def test_a_device_without_float64_draws_and_learns(mac, make_small, y, schedule):
    draw(make_small(schedule=schedule), y, schedule=Linear())
    lose(make_small(schedule=schedule), y)


@pytest.mark.parametrize("cls", concrete(Sampler), ids=lambda cls: cls.__name__)
def test_every_sampler_does_without_float64(mac, make_small, y, cls):
    denoiser = make_small()
    denoiser.reaches = frozenset(Reach)
    draw(denoiser, y, sampler=cls(steps=STEPS))


@pytest.mark.parametrize("objective", concrete(Objective), ids=lambda cls: cls.__name__)
def test_every_objective_does_without_float64(mac, make_small, y, objective):
    denoiser = make_small()
    denoiser.reaches = objective.reaches | {Reach.END}
    lose(denoiser, y, objective=objective)
