"""Peak memory of training steps, ours and those of three peers, at two sizes of images.

``uv run --group bench python -m tests.benchmarks.memory`` prints the table. Each case is a process
of its own. On a CPU the peak is the most that was resident, less what imports and steps of two
images had taken; on a GPU it is the most that torch had allocated there.
"""

import argparse
import gc
import json
import logging
import resource
import subprocess
import sys
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


Steps = Callable[[int, int, list[str]], Stepped]
"""Steps with images of a size, in batches of a size, and overrides of ccdiff's config."""


def ours(size: int, batch: int, overrides: list[str]) -> Stepped:
    """Steps of the training loop."""
    # What it imports is no part of a peer's process.
    from tests.benchmarks.ours import NOISE, assembled, bare_step

    settings = (*NOISE, f"data.image_size={size}", f"trainer.batch_size={batch}", *overrides)
    training = assembled(*settings)
    step = bare_step(training)
    for _ in range(STEPS):
        step()
    return Stepped(training.state.denoiser, training.device, training.speed.flops_per_image)


def theirs(build: Callable[[int], nn.Module], recipe: Callable[[nn.Module], Peer]) -> Steps:
    """Steps of a peer, in bfloat16 where ours would be.

    Arguments:
        build: Its network for images of a size.
        recipe: What that is trained with.
    """

    def steps(size: int, batch: int, overrides: list[str]) -> Stepped:
        device = pick_device("auto")
        bf16 = autocast_dtype(Precision.auto, device) is not None
        peer = recipe(build(size).to(device))
        run = step(peer, torch.rand(batch, 1, size, size, device=device), bf16=bf16)
        for _ in range(STEPS):
            run()
        flops = training_flops(peer.loss, peer.network, (1, size, size))
        return Stepped(peer.network, device, flops)

    return steps


CASES: dict[str, Steps] = {
    "denoising-diffusion-pytorch": theirs(ddpm_diffusion, ddpm_peer),
    "diffusers": theirs(diffusers_unet, diffusers_peer),
    "azula": theirs(lambda size: azula_denoiser(), azula_peer),
    "ccdiff": ours,
}


def resident() -> int:
    """The most bytes of memory that this process has ever had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(name: str, size: int, batch: int, overrides: list[str]) -> dict[str, float]:
    """The peak of one case in this process, which has measured nothing else."""
    CASES[name](size, 2, overrides)
    gc.collect()
    before = resident()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    stepped = CASES[name](size, batch, overrides)
    cuda = stepped.device.type == "cuda"
    return {
        "peak": torch.cuda.max_memory_allocated() if cuda else resident() - before,
        "process": resident(),
        "parameters": count(stepped.network),
        "flops": stepped.flops,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=tuple(CASES))
    parser.add_argument("--measure", action="store_true", help="one case at one size, as JSON")
    parser.add_argument("overrides", nargs="*", help="of ccdiff's config, as for train.py")
    args = parser.parse_intermixed_args()
    logging.disable(logging.WARNING)
    if args.measure:
        print(json.dumps(measure(args.cases[0], args.sizes[0], args.batch_size, args.overrides)))
        return
    print(f"{machine()}; {args.batch_size} images a step\n")
    print("| image size | case | parameters | GFLOPs per image | peak MiB | whole process MiB |")
    print("|---|---|---|---|---|---|")
    for size in args.sizes:
        for name in args.cases:
            command = [sys.executable, "-m", "tests.benchmarks.memory", *args.overrides]
            command += ["--measure", "--sizes", str(size), "--cases", name]
            command += ["--batch-size", str(args.batch_size)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {size} px | {name} | {found['parameters'] / 1e6:.2f} M "
                f"| {found['flops'] / 1e9:.3f} | {found['peak'] / 2**20:.0f} "
                f"| {found['process'] / 2**20:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
