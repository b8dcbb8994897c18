"""Images per second of one optimizer step, with EMA, against three peers at like size.

``uv run --group bench python -m tests.benchmarks.train_step`` prints the table. Everyone has the
same images, AdamW, a clipped gradient, and autocast or not. Networks cannot be made equal, so the
column that compares is GFLOP/s: operations done per second, forwards and backwards.
"""

import argparse
import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.benchmarks.kit import Case, Run, interleave, machine, measure_flops, table
from tests.benchmarks.ours import NOISE, assembled, batches_of, updater
from tests.benchmarks.peers import (
    azula_denoiser,
    azula_loss,
    ddpm_diffusion,
    diffusers_loss,
    diffusers_unet,
)

SHAPE = (1, 28, 28)


def autocast(args: argparse.Namespace) -> torch.autocast:
    return torch.autocast(args.device, torch.bfloat16, enabled=args.bf16)


def case(args: argparse.Namespace, network: nn.Module, update: Run, loss: Run) -> Case:
    flops = measure_flops(lambda: loss().backward(), images=args.batch_size)
    network.zero_grad(set_to_none=True)
    return Case(run=update, images=args.batch_size, network=network, flops=flops)


def ours(args: argparse.Namespace, *, compiled: bool = False) -> Case:
    """The step of the training loop, from drawing the batch to the averaged weights."""
    training = assembled(
        *NOISE,
        f"trainer.batch_size={args.batch_size}",
        f"trainer.device={args.device}",
        f"trainer.precision={'bf16' if args.bf16 else 'fp32'}",
        f"trainer.compile={'default' if compiled else 'none'}",
        *args.overrides,
    )
    return Case(
        run=updater(training, batches_of(training)),
        images=args.batch_size,
        network=training.state.denoiser,
        flops=training.speed.flops_per_image,
    )


def step(parameters: list[nn.Parameter], loss: Run, average: Run) -> Callable[[], None]:
    """What the trainers of two peers do, without their accelerator's extra calls."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def run() -> None:
        loss().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average()

    return run


def images_for(args: argparse.Namespace, network: nn.Module, *, channels_last: bool) -> Tensor:
    """A batch in [0, 1], in the layout that the network is given here."""
    images = torch.rand(args.batch_size, *SHAPE, device=args.device)
    if not channels_last:
        return images
    network.to(memory_format=torch.channels_last)
    return images.to(memory_format=torch.channels_last)


def ddpm_pytorch(args: argparse.Namespace, *, channels_last: bool) -> Case:
    """denoising-diffusion-pytorch: its U-Net, its loss, its EMA at every tenth step."""
    from ema_pytorch import EMA

    diffusion = ddpm_diffusion().to(args.device)
    images = images_for(args, diffusion, channels_last=channels_last)
    ema = EMA(diffusion, beta=0.995, update_every=10)

    def loss() -> Tensor:
        with autocast(args):
            return diffusion(images)

    return case(args, diffusion, step(list(diffusion.parameters()), loss, ema.update), loss)


def diffusers(
    args: argparse.Namespace, *, channels_last: bool, groups: int = 8, compiled: bool = False
) -> Case:
    """diffusers: its U-Net, its scheduler and its EMA, as in its unconditional example."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    network = diffusers_unet(groups=groups).to(args.device)
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    images = images_for(args, network, channels_last=channels_last)
    parameters = list(network.parameters())
    ema = EMAModel(parameters, foreach=True)

    def loss(called: nn.Module = network) -> Tensor:
        with autocast(args):
            return diffusers_loss(called, scheduler, 2 * images - 1)

    stepped = partial(loss, torch.compile(network)) if compiled else loss
    # Operations are counted of the network as it is written.
    return case(args, network, step(parameters, stepped, lambda: ema.step(parameters)), loss)


def azula(
    args: argparse.Namespace, *, channels_last: bool, norm: str = "layer", groups: int = 16
) -> Case:
    """azula: its U-Net and denoiser, its loss, torch's average, as in its tutorials."""
    denoiser = azula_denoiser(norm=norm, groups=groups).to(args.device)
    images = images_for(args, denoiser, channels_last=channels_last)
    average = AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(0.999))

    def loss() -> Tensor:
        with autocast(args):
            return azula_loss(denoiser, 2 * images - 1)

    def update() -> None:
        average.update_parameters(denoiser)

    return case(args, denoiser, step(list(denoiser.parameters()), loss, update), loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("overrides", nargs="*", help="of ccdiff's config, as for train.py")
    args = parser.parse_intermixed_args()
    logging.disable(logging.WARNING)
    print(f"{machine()}; one step of {args.batch_size} images of 28 px")
    for args.bf16 in (False, True):
        cases = {
            "denoising-diffusion-pytorch": ddpm_pytorch(args, channels_last=False),
            "the same, channels last": ddpm_pytorch(args, channels_last=True),
            "diffusers": diffusers(args, channels_last=False),
            "diffusers, channels last": diffusers(args, channels_last=True),
            "diffusers, channels last and 2 groups": diffusers(args, channels_last=True, groups=2),
            "azula": azula(args, channels_last=False),
            "azula, channels last": azula(args, channels_last=True),
            "azula, channels last and 2 groups": azula(
                args, channels_last=True, norm="group", groups=2
            ),
            "ccdiff": ours(args),
        }
        if args.device != "cpu":
            cases["diffusers, compiled"] = diffusers(args, channels_last=True, compiled=True)
            cases["ccdiff, compiled"] = ours(args, compiled=True)
        taken = interleave(cases, rounds=args.rounds)
        print(f"\n{'bf16' if args.bf16 else 'fp32'}\n\n{table(cases, taken)}")


if __name__ == "__main__":
    main()
