"""Peak memory of training steps, ours and those of two peers, at two sizes of images.

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
from torch import Tensor, nn

from ccdiff.training.device import autocast_dtype, pick_device
from ccdiff.training.settings import Precision
from tests.benchmarks.kit import count, machine, measure_flops

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


def ours(size: int, batch: int, overrides: list[str]) -> Stepped:
    """Steps of the training loop."""
    from tests.benchmarks.ours import NOISE, assembled, bare_step

    settings = (*NOISE, f"data.image_size={size}", f"trainer.batch_size={batch}", *overrides)
    training = assembled(*settings)
    step = bare_step(training)
    for _ in range(STEPS):
        step()
    return Stepped(training.state.denoiser, training.device, training.speed.flops_per_image)


def peer(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    average: Callable[[], None],
    *,
    size: int,
    batch: int,
) -> Stepped:
    """Steps as both peers' trainers take them, in bfloat16 where ours would be."""
    device = next(network.parameters()).device
    dtype = autocast_dtype(Precision.auto, device)
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    images = torch.rand(batch, 1, size, size, device=device)
    for _ in range(STEPS):
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype is not None):
            value = loss(images)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average()
    flops = measure_flops(lambda: loss(images[:2]).backward(), images=2)
    return Stepped(network, device, flops)


def ddpm_pytorch(size: int, batch: int, overrides: list[str]) -> Stepped:
    """denoising-diffusion-pytorch."""
    from ema_pytorch import EMA

    from tests.benchmarks.peers import ddpm_diffusion

    diffusion = ddpm_diffusion(size).to(pick_device("auto"))
    ema = EMA(diffusion, beta=0.995, update_every=10)
    return peer(diffusion, diffusion, ema.update, size=size, batch=batch)


def diffusers(size: int, batch: int, overrides: list[str]) -> Stepped:
    """diffusers."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    from tests.benchmarks.peers import diffusers_loss, diffusers_unet

    network, scheduler = diffusers_unet(size).to(pick_device("auto")), DDPMScheduler()
    parameters = list(network.parameters())
    ema = EMAModel(parameters)
    return peer(
        network,
        lambda images: diffusers_loss(network, scheduler, images),
        lambda: ema.step(parameters),
        size=size,
        batch=batch,
    )


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


CASES = {
    "denoising-diffusion-pytorch": ddpm_pytorch,
    "diffusers": diffusers,
    "ccdiff": ours,
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
