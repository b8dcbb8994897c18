"""Peak memory of training steps, ours and those of three peers, at two sizes of images.

``uv run --group bench python -m tests.benchmarks.memory`` prints the table; with ``--large`` that
of unet_large and of diffusers' network of as many parameters, for 2 images of 256 px, each with
gradient checkpointing and without. Each case is a process of its own. On a CPU the peak is the
most that was resident, less what imports and steps of two small images had taken; on a GPU it is
the most that torch had allocated there. Seconds are those of the second step.
"""

import argparse
import gc
import json
import logging
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ccdiff.settings import Precision
from ccdiff.system.device import autocast_dtype, pick_device
from tests.benchmarks.kit import count, machine, training_flops
from tests.benchmarks.peers import (
    Peer,
    azula_denoiser,
    azula_peer,
    ddpm_diffusion,
    ddpm_peer,
    diffusers_large,
    diffusers_peer,
    diffusers_unet,
    step,
)

SIZES = (28, 64)
BATCH = 64
STEPS = 2


@dataclass(frozen=True)
class Stepped:
    """What took some steps."""

    network: nn.Module
    device: torch.device
    flops: float
    """Operations per image of a step."""
    seconds: float
    """That the last step took."""


Steps = Callable[[int, int, list[str]], Stepped]
"""Steps with images of a size, in batches of a size, and overrides of ccdiff's config."""


def ours(*settings: str) -> Steps:
    """Steps of the training loop, with overrides of the config."""

    def steps(size: int, batch: int, overrides: list[str]) -> Stepped:
        # What it imports is no part of a peer's process.
        from tests.benchmarks.ours import NOISE, assembled, bare_step

        sizes = (f"data.image_size={size}", f"trainer.batch_size={batch}")
        training = assembled(*NOISE, *settings, *sizes, *overrides)
        seconds = _taken(bare_step(training), training.device)
        network, flops = training.state.denoiser, training.speed.flops_per_image
        return Stepped(network, training.device, flops, seconds)

    return steps


def _taken(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of the last of some steps."""
    for _ in range(STEPS):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def theirs(
    build: Callable[[int], nn.Module], recipe: Callable[[nn.Module], Peer], *, channels: int = 1
) -> Steps:
    """Steps of a peer, in bfloat16 where ours would be.

    Arguments:
        build: Its network for images of a size.
        recipe: What that is trained with.
        channels: C of the images.
    """

    def steps(size: int, batch: int, overrides: list[str]) -> Stepped:
        device = pick_device("auto")
        bf16 = autocast_dtype(Precision.auto, device) is not None
        peer = recipe(build(size).to(device))
        images = torch.rand(batch, channels, size, size, device=device)
        seconds = _taken(step(peer, images, bf16=bf16), device)
        flops = training_flops(peer.loss, peer.network, (channels, size, size))
        return Stepped(peer.network, device, flops, seconds)

    return steps


CASES: dict[str, Steps] = {
    "denoising-diffusion-pytorch": theirs(ddpm_diffusion, ddpm_peer),
    "diffusers": theirs(diffusers_unet, diffusers_peer),
    "azula": theirs(lambda size: azula_denoiser(), azula_peer),
    "ccdiff": ours(),
}

_UNET_LARGE = ("data.channels=3", "model=unet_large")


def _checkpointing(network: nn.Module) -> nn.Module:
    network.enable_gradient_checkpointing()  # type: ignore[operator]
    return network


LARGE: dict[str, Steps] = {
    "ccdiff": ours(*_UNET_LARGE),
    "ccdiff, checkpointing": ours(*_UNET_LARGE, "model.gradient_checkpointing=true"),
    "diffusers": theirs(diffusers_large, diffusers_peer, channels=3),
    "diffusers, checkpointing": theirs(
        lambda size: _checkpointing(diffusers_large(size)), diffusers_peer, channels=3
    ),
}
"""At as many parameters as unet_large."""


def resident() -> int:
    """The most bytes of memory that this process has ever had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(case: Steps, size: int, batch: int, overrides: list[str]) -> dict[str, float]:
    """The peak of one case in this process, which has measured nothing else."""
    case(min(size, max(SIZES)), 2, overrides)
    gc.collect()
    before = resident()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    stepped = case(size, batch, overrides)
    cuda = stepped.device.type == "cuda"
    return {
        "peak": torch.cuda.max_memory_allocated() if cuda else resident() - before,
        "process": resident(),
        "parameters": count(stepped.network),
        "flops": stepped.flops,
        "seconds": stepped.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="unet_large and 2 images of 256 px")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--cases", nargs="+", choices={**CASES, **LARGE})
    parser.add_argument("--measure", action="store_true", help="one case at one size, as JSON")
    parser.add_argument("overrides", nargs="*", help="of ccdiff's config, as for train.py")
    args = parser.parse_intermixed_args()
    logging.disable(logging.WARNING)
    cases = LARGE if args.large else CASES
    sizes = args.sizes or ((256,) if args.large else SIZES)
    batch = args.batch_size or (2 if args.large else BATCH)
    if args.measure:
        print(json.dumps(measure(cases[args.cases[0]], sizes[0], batch, args.overrides)))
        return
    print(f"{machine()}; {batch} images a step\n")
    print(
        "| image size | case | parameters | GFLOPs per image | peak MiB | whole process MiB "
        "| seconds per step |"
    )
    print("|---|---|---|---|---|---|---|")
    for size in sizes:
        for name in args.cases or cases:
            command = [sys.executable, "-m", "tests.benchmarks.memory", *args.overrides]
            command += ["--measure", "--sizes", str(size), "--cases", name]
            command += ["--batch-size", str(batch), *(["--large"] if args.large else [])]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {size} px | {name} | {found['parameters'] / 1e6:.2f} M "
                f"| {found['flops'] / 1e9:.3f} | {found['peak'] / 2**20:.0f} "
                f"| {found['process'] / 2**20:.0f} | {found['seconds']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
