"""Fixtures that all tests share: a seed each, and parts discovered from their base classes.

A test that takes ``schedule``, ``prediction``, ``weighting`` or ``time_density`` runs once for
each concrete class of the package, so a new class is tested without an edit.
"""

import inspect
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from ccdiff.data import Split
from ccdiff.diffusion.conditioning import Conditioning, OneHot
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives import Objective
from ccdiff.diffusion.predictions import EDM, Noise, Prediction
from ccdiff.diffusion.samplers.grids import Fitted, Karras, Logistic, LogSNR
from ccdiff.diffusion.schedules import Cosine, Linear, Quadratic, Schedule, Sigmoid
from ccdiff.diffusion.times import LogitNormal, TimeDensity
from ccdiff.diffusion.weightings import EDMWeighting, MinSNR, Weighting
from ccdiff.nn import UNet
from ccdiff.train import assembly
from ccdiff.training.operations import Size, measure

# The networks of the tests are too small to gain from threads, and one thread is reproducible.
torch.set_num_threads(1)

# Settings other than the defaults that have gone wrong or could.
VARIANTS: list[object] = [
    Cosine(max_log_snr=6.0),
    Linear(num_steps=50),
    Linear(num_steps=100, beta_start=1e-3, beta_end=0.2),
    Quadratic(beta_start=8.5e-4, beta_end=0.012),
    Sigmoid(start=0.0, end=3.0, temperature=0.3),
    EDM(sigma_data=1.5),
    EDMWeighting(sigma_data=1.5),
    MinSNR(gamma=1.0),
    LogitNormal(mean=-1.2, std=1.2),
    Karras(sigma_max=20.0, sigma_min=0.05, rho=3.0),
    Karras(sigma_max=1e9, sigma_min=1e-9),
    LogSNR(sigma_max=1e9, sigma_min=1e-9),
    Logistic(loc=2.0, scale=1.0, sigma_max=10.0),
    Fitted(levels=[-6.0, -1.0, 0.5, 4.0]),
]


def concrete(base: type) -> list[type]:
    """Every public class of the package that can be built and is a ``base``, by name."""
    found: set[type] = set()
    unseen = [base]
    while unseen:
        cls = unseen.pop()
        unseen += cls.__subclasses__()
        public = cls.__module__.startswith("ccdiff.") and not cls.__name__.startswith("_")
        if public and not inspect.isabstract(cls):
            found.add(cls)
    return sorted(found, key=lambda cls: cls.__name__)


def instances(base: type) -> list[object]:
    """Every concrete class with its default settings, where it has them, then the variants."""
    variants = [v for v in VARIANTS if isinstance(v, base)]
    needy = {type(v) for v in variants if _needs_settings(type(v))}
    return [cls() for cls in concrete(base) if cls not in needy] + variants


def _needs_settings(cls: type) -> bool:
    parameters = inspect.signature(cls).parameters.values()
    return any(one.default is one.empty for one in parameters)


@pytest.fixture(params=instances(Schedule), ids=repr)
def schedule(request) -> Schedule:
    return request.param


@pytest.fixture(params=instances(Prediction), ids=repr)
def prediction(request) -> Prediction:
    return request.param


@pytest.fixture(params=instances(Weighting), ids=repr)
def weighting(request) -> Weighting:
    return request.param


@pytest.fixture(params=instances(TimeDensity), ids=repr)
def time_density(request) -> TimeDensity:
    return request.param


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _count_operations_once() -> Iterator[None]:
    """Runs of one network and image size share the count, a quarter of the time of a tiny run."""
    counted: dict[object, Size] = {}

    def once(denoiser: Denoiser, objective: Objective, split: Split, *, place: str) -> Size:
        key = repr(denoiser), repr(objective), split.images.shape[1:], split.labels.shape[1:]
        if key not in counted:
            counted[key] = measure(denoiser, objective, split, place=place)
        return counted[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "measure", once)
        yield


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def awaken(module: nn.Module, scale: float = 0.1) -> nn.Module:
    """Gives zero-initialised parameters small random values, so that every branch has a say."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0, scale)
    return module


@pytest.fixture
def make_unet() -> Callable[..., UNet]:
    """Builds a small U-Net for gray images, awake; keywords replace its settings."""

    def make(*, asleep: bool = False, **settings) -> UNet:
        defaults = {
            "image_channels": 1,
            "token_dim": 8,
            "channels": [8, 16],
            "bottleneck": 16,
            "attention": [False, True],
            "head_channels": 8,
            "groups": 4,
            "embed_dim": 16,
        }
        network = UNet(**{**defaults, **settings})
        return network if asleep else awaken(network)

    return make


@pytest.fixture
def make_denoiser(make_unet) -> Callable[..., Denoiser]:
    """Builds a denoiser of three classes around a small U-Net; keywords replace its parts."""

    def make(
        network: nn.Module | None = None,
        *,
        conditioning: Conditioning | None = None,
        prediction: Prediction | None = None,
        schedule: Schedule | None = None,
    ) -> Denoiser:
        return Denoiser(
            network or make_unet(),
            conditioning=conditioning or OneHot(["a", "b", "c"], dim=8),
            prediction=prediction or Noise(),
            schedule=schedule or Cosine(),
        )

    return make
