"""Images per second of one optimizer step, with EMA, against three peers at like size.

``uv run --group bench python -m tests.benchmarks.train_step`` prints the table. Everyone has the
same images, AdamW, a clipped gradient, and autocast or not. Networks cannot be made equal, so the
column that compares is GFLOP/s: operations done per second, forwards and backwards.
"""

import argparse
import logging
from collections.abc import Callable

import torch
from torch import nn

from tests.benchmarks.kit import Case, interleave, machine, shares, table, training_flops
from tests.benchmarks.ours import NOISE, assembled, batches_of, updater
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

SHAPE = (1, 28, 28)


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


def theirs(
    args: argparse.Namespace,
    network: nn.Module,
    recipe: Callable[[nn.Module], Peer],
    *,
    channels_last: bool,
    compiled: bool = False,
) -> Case:
    """The step of a peer with its network, in one of two layouts."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    peer = recipe(network.to(args.device, memory_format=layout))
    flops = training_flops(peer.loss, network, SHAPE)
    if compiled:
        # Only now: operations are counted of the network as it is written.
        network.compile()
    images = torch.rand(args.batch_size, *SHAPE, device=args.device).to(memory_format=layout)
    return Case(
        run=step(peer, images, bf16=args.bf16),
        images=args.batch_size,
        network=network,
        flops=flops,
    )


def ddpm_pytorch(args: argparse.Namespace, *, channels_last: bool) -> Case:
    """denoising-diffusion-pytorch."""
    return theirs(args, ddpm_diffusion(), ddpm_peer, channels_last=channels_last)


def diffusers(
    args: argparse.Namespace, *, channels_last: bool, groups: int = 8, compiled: bool = False
) -> Case:
    """diffusers."""
    network = diffusers_unet(groups=groups)
    return theirs(args, network, diffusers_peer, channels_last=channels_last, compiled=compiled)


def azula(
    args: argparse.Namespace, *, channels_last: bool, norm: str = "layer", groups: int = 16
) -> Case:
    """azula."""
    denoiser = azula_denoiser(norm=norm, groups=groups)
    return theirs(args, denoiser, azula_peer, channels_last=channels_last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="both, unless given")
    parser.add_argument("--profile", action="store_true", help="where the time goes, instead")
    parser.add_argument("--only", nargs="+", help="parts of the names of the cases to run")
    parser.add_argument("overrides", nargs="*", help="of ccdiff's config, as for train.py")
    args = parser.parse_intermixed_args()
    logging.disable(logging.WARNING)
    print(f"{machine()}; one step of {args.batch_size} images of 28 px")
    for precision in (args.precision,) if args.precision else ("fp32", "bf16"):
        args.bf16 = precision == "bf16"
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
        if args.only:
            cases = {k: case for k, case in cases.items() if any(part in k for part in args.only)}
        shown = (
            shares(cases) if args.profile else table(cases, interleave(cases, rounds=args.rounds))
        )
        print(f"\n{precision}\n\n{shown}")


if __name__ == "__main__":
    main()
