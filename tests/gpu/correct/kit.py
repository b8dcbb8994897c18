"""What the cases share: parts built as the product builds them, and one randomness for devices.

A random generator of a GPU draws other numbers than one of the CPU, so whatever is compared draws
on the CPU and is moved.
"""

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ccdiff.config.build import build_data, build_denoiser, build_objective, instantiate
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives import Draw, Objective
from ccdiff.diffusion.samplers import sample
from ccdiff.runs.folder import Run
from ccdiff.system.device import pick_device
from ccdiff.train.assembly import Training
from tests.benchmarks.ours import composed
from tests.gpu.bench import ROOT, Bench

__all__ = [
    "DRAWN",
    "FP32",
    "OnCPU",
    "PairedObjective",
    "apart",
    "awaken",
    "config_of",
    "draw_images",
    "network_of",
    "options_of",
    "pair",
    "training_of",
    "without_tf32",
]

FP32 = 1e-4
"""How far float32 of two devices may be apart, relative to the size of the whole."""
DRAWN = 1e-3
"""The same of images: an untrained network takes rounding for a detail, and each call adds to it.
An eighth of a gray level at most."""
BF16 = 3e-2
"""Bfloat16 has 8 bits, 0.4 %, in each of the dozens of operations that follow each other."""


def network_of(bench: Bench) -> tuple[str, ...]:
    """Overrides of a U-Net that has every kind of layer and is no larger than that takes."""
    if bench.miniature:
        width = ("model.channels=[8,16]", "model.bottleneck=16", "model.num_blocks=2")
        return (*width, "model.attention=[false,true]", "model.head_channels=8", "model.groups=4")
    width = ("model.channels=[64,128]", "model.bottleneck=128", "model.num_blocks=2")
    return (*width, "model.attention=[false,true]", "model.head_channels=32", "model.groups=8")


def options_of(group: str) -> list[str]:
    """The options of a group of ``conf/``, by name."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


@contextmanager
def without_tf32() -> Iterator[None]:
    """Within, float32 is float32, also in convolutions of a GPU; by default they have 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def awaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Gives zero-initialised parameters small random values, so that every branch has a say."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


@dataclass(frozen=True)
class Pair:
    """One denoiser on two devices.

    Arguments:
        cfg: What it was built of.
        here: On the CPU.
        there: The same on the device.
        objective: The loss.
        shape: ``(C, H, W)`` of its images.
    """

    cfg: DictConfig
    here: Denoiser
    there: Denoiser
    objective: Objective
    shape: tuple[int, int, int]


@functools.cache
def _composed(*overrides: str) -> DictConfig:
    """Composed once for all cases: it takes longer than most of them."""
    return composed("data=digits", "data.image_size=16", *overrides)


def _option(group: str, name: str) -> DictConfig:
    """An option of a group as its file has it, with the options that it names."""
    node = OmegaConf.load(ROOT / "conf" / group / f"{name}.yaml")
    under = OmegaConf.create({})
    for entry in node.pop("defaults", []):
        if isinstance(entry, DictConfig):
            under = OmegaConf.merge(
                under, {key: _option(f"{group}/{key}", str(value)) for key, value in entry.items()}
            )
        elif entry != "_self_":
            under = OmegaConf.merge(under, _option(group, entry))
    return OmegaConf.merge(under, node)


def _put(cfg: DictConfig, group: str, name: str) -> None:
    """Puts an option in the place of another."""
    key = group.replace("/", ".")
    OmegaConf.update(cfg, key, _option(group, name), merge=False, force_add=True)


def pair(bench: Bench, *overrides: str, choice: str | None = None) -> Pair:
    """The untrained denoiser of a config, awake, in float32 and evaluation mode.

    Arguments:
        bench: Says on which device.
        overrides: As on the command line.
        choice: An option of a group, ``sampler/grid=karras``, put in without composing anew.
    """
    cfg = copy.deepcopy(_composed(*network_of(bench), *overrides))
    if choice is not None:
        group, _, name = choice.partition("=")
        _put(cfg, group, name)
    data = build_data(cfg)
    both = []
    for device in (torch.device("cpu"), bench.device):
        torch.manual_seed(0)
        denoiser = build_denoiser(cfg)
        awaken(denoiser)
        both.append(denoiser.to(device).eval())
    return Pair(cfg, *both, build_objective(cfg), data.image_shape)


def batch_of(pair: Pair, n: int) -> tuple[Tensor, Tensor, Draw]:
    """Images, labels and randomness on the CPU."""
    generator = torch.Generator().manual_seed(1)
    x0 = torch.rand(n, *pair.shape, generator=generator) * 2 - 1
    y = torch.arange(n) % 10
    return x0, y, pair.objective.draw(pair.here, x0, generator)


def moved(draw: Draw, device: torch.device) -> Draw:
    """The same randomness on a device."""
    return type(draw)(*(one.to(device) if torch.is_tensor(one) else one for one in draw))


def apart(one: Tensor | Sequence[Tensor], other: Tensor | Sequence[Tensor]) -> float:
    """How far two tensors are apart, or two lists taken as one vector: |a - b| / |b|."""
    first, second = (
        torch.cat(
            [t.detach().double().cpu().flatten() for t in ([x] if torch.is_tensor(x) else x)]
        )
        for x in (one, other)
    )
    return ((first - second).norm() / second.norm().clamp_min(1e-30)).item()


class OnCPU:
    """Noise that is drawn on the CPU and moved, the same for every device."""

    def __init__(self, device: torch.device, seed: int = 0) -> None:
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)

    def randn(self, shape: torch.Size) -> Tensor:
        """Float32 noise on the device."""
        return torch.randn(shape, generator=self.generator).to(self.device)


def draw_images(
    pair: Pair, denoiser: Denoiser, *, sampler: object, n: int, guided: object = None
) -> Tensor:
    """Samples [n, C, H, W] of one of the pair, from the same noise on either device."""
    device = next(denoiser.parameters()).device
    guidance = instantiate(pair.cfg.guidance) if guided is None else guided
    y = (torch.arange(n) % 10).to(device)
    denoise = instantiate(pair.cfg.threshold)(guidance(denoiser, y, None))
    return sample(sampler, denoise, denoiser.schedule, (n, *pair.shape), OnCPU(device))


class PairedObjective:
    """An objective whose draws are those of the CPU; the rest is the objective's own.

    Arguments:
        objective: The loss.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def draw(
        self, denoiser: Denoiser, x0: Tensor, generator: torch.Generator, *, step: int = 0
    ) -> Draw:
        """Times, noise and drop mask, keyed by the seed that the generator was given last."""
        own = torch.Generator().manual_seed(generator.initial_seed())
        here = torch.zeros((), dtype=x0.dtype).expand(x0.shape)
        return moved(self.objective.draw(denoiser, here, own, step=step), x0.device)

    def __getattr__(self, name: str) -> object:
        return getattr(self.objective, name)


def config_of(*overrides: str, changes: Sequence[str] = ()) -> DictConfig:
    """The config of ``python train.py <overrides> <changes>``, composed once for all changes.

    Arguments:
        overrides: As on the command line.
        changes: Options of groups, ``optimizer=muon``, and values, ``trainer.steps=3``.
    """
    cfg = copy.deepcopy(_composed(*overrides))
    for change in changes:
        key, _, value = change.partition("=")
        if (ROOT / "conf" / key).is_dir():
            _put(cfg, key, value)
        else:
            OmegaConf.update(cfg, key, yaml.safe_load(value), merge=False)
    return cfg


def training_of(bench: Bench, folder: Path, *changes: str, device: str | None = None) -> Training:
    """What ``train.py`` builds for a small run, awake, its randomness that of the CPU."""
    cfg = config_of(
        *network_of(bench),
        "data.image_size=8",
        "tracker=none",
        "trainer.precision=fp32",
        "trainer.compile=none",
        "trainer.batch_size=32",
        "trainer.warmup=5",
        changes=(f"trainer.device={device or bench.device}", *changes),
    )
    settings = OmegaConf.to_object(cfg.trainer)
    training = Training(
        cfg, Run(folder), settings, checkpoint=None, device=pick_device(settings.device)
    )
    awaken(training.state.denoiser)
    training.state.ema.ema_model.load_state_dict(training.state.denoiser.state_dict())
    training.objective = PairedObjective(training.objective)
    return training


def steps_of(training: Training, steps: int) -> list[Tensor]:
    """Takes so many optimizer steps; returns the loss of each, a scalar on the device."""
    update = training._update()
    training.state.denoiser.train()
    losses = [update().clone() for _ in range(steps)]
    update.settle()
    return losses
