"""Peak memory of training steps, ours and those of two peers, at two sizes of images.

``uv run --group bench python -m tests.benchmarks.memory`` prints the table. Each case is a process
of its own. On a CPU it is the most that was resident, less what the imports had taken; on a GPU
the most that torch had allocated there.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.benchmarks.kit import count, machine, measure_flops

SIZES = (28, 64)
BATCH = 64
STEPS = 3


def resident() -> int:
    """The most bytes of memory that this process has ever had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def ours(size: int, batch: int, overrides: list[str]) -> dict[str, float]:
    """Steps of the training loop."""
    from tests.benchmarks import ours as built

    before = resident()
    settings = (*built.NOISE, f"data.image_size={size}", f"trainer.batch_size={batch}", *overrides)
    with tempfile.TemporaryDirectory() as name:
        training = built.assembled(*settings, folder=Path(name))
        step = built.bare_step(training)
        for _ in range(STEPS):
            step()
    found = report(training.state.denoiser, before, training.device.type)
    return {**found, "flops": built.step_flops(training)}


def peer(network: nn.Module, loss: Callable[[Tensor], Tensor], ema, *, size: int, batch: int):
    """Steps as both peers' trainers take them, in bfloat16 where ours would be."""
    from ccdiff.training.device import autocast_dtype, pick_device
    from ccdiff.training.settings import Precision

    device = pick_device("auto")
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
        ema()
    return device.type, images[:2]


def ddpm_pytorch(size: int, batch: int, overrides: list[str]) -> dict[str, float]:
    """denoising-diffusion-pytorch."""
    from ema_pytorch import EMA

    from ccdiff.training.device import pick_device
    from tests.benchmarks.peers import ddpm_diffusion

    diffusion = ddpm_diffusion(size)  # which imports the library
    before = resident()
    diffusion = ddpm_diffusion(size).to(pick_device("auto"))
    ema = EMA(diffusion, beta=0.995, update_every=10)
    device, few = peer(diffusion, diffusion, ema.update, size=size, batch=batch)
    found = report(diffusion, before, device)
    return {**found, "flops": measure_flops(lambda: diffusion(few).backward(), images=2)}


def diffusers(size: int, batch: int, overrides: list[str]) -> dict[str, float]:
    """diffusers."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    from ccdiff.training.device import pick_device
    from tests.benchmarks.peers import diffusers_loss, diffusers_unet

    before = resident()
    network, scheduler = diffusers_unet(size).to(pick_device("auto")), DDPMScheduler()
    parameters = list(network.parameters())
    ema = EMAModel(parameters)

    def loss(images: Tensor) -> Tensor:
        return diffusers_loss(network, scheduler, images)

    device, few = peer(network, loss, lambda: ema.step(parameters), size=size, batch=batch)
    found = report(network, before, device)
    return {**found, "flops": measure_flops(lambda: loss(few).backward(), images=2)}


def report(network: nn.Module, before: int, device: str) -> dict[str, float]:
    """The peak, taken before anything else needs memory, and the number of parameters."""
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident() - before
    return {"peak": peak, "process": resident(), "parameters": count(network)}


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
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    if args.measure:
        print(json.dumps(CASES[args.cases[0]](args.sizes[0], args.batch_size, args.overrides)))
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
