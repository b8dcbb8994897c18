"""Images per second of one optimizer step, with EMA, against two peers at like size.

``uv run --group bench python -m tests.benchmarks.train_step`` prints the table. Everyone has the
same images, AdamW, a clipped gradient, and autocast or not. Networks cannot be made equal, so the
column that compares is GFLOP/s: operations done per second, forwards and backwards.
"""

import argparse
import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.benchmarks.kit import Case, Run, interleave, machine, measure_flops, table
from tests.benchmarks.peers import diffusers_unet

SHAPE = (1, 28, 28)


def autocast(args: argparse.Namespace) -> torch.autocast:
    return torch.autocast(args.device, torch.bfloat16, enabled=args.bf16)


def case(args: argparse.Namespace, network: nn.Module, update: Run, loss: Run) -> Case:
    flops = measure_flops(lambda: loss().backward(), images=args.batch_size)
    network.zero_grad(set_to_none=True)
    return Case(run=update, images=args.batch_size, network=network, flops=flops)


def ours(args: argparse.Namespace) -> Case:
    """The step of the training loop, from drawing the batch to the averaged weights."""
    from hydra import compose, initialize

    from ccdiff import schema
    from ccdiff.compose import build_denoiser, build_objective, instantiate
    from ccdiff.data import Batches, Split
    from ccdiff.training.loop import TrainState, _Updater
    from ccdiff.training.settings import TrainerSettings
    from ccdiff.training.timing import StepTimer, clock_of

    schema.register()
    with initialize(version_base=None, config_path="../../conf"):
        cfg = compose("train", overrides=["experiment=mnist"])
    denoiser = build_denoiser(cfg).to(args.device)
    denoiser.autocast_dtype = torch.bfloat16 if args.bf16 else None
    state = TrainState(
        denoiser=denoiser,
        ema=instantiate(cfg.ema)(denoiser),
        optimizer=instantiate(cfg.optimizer)(denoiser.parameters()),
    )
    num = 4 * args.batch_size
    split = Split(torch.randint(0, 256, (num, *SHAPE), dtype=torch.uint8), torch.arange(num) % 10)
    batches = Batches(split, batch_size=args.batch_size, seed=0, device=args.device)
    objective = build_objective(cfg)
    update = _Updater(
        state,
        objective=objective,
        batches=batches,
        flip=False,
        settings=TrainerSettings(batch_size=args.batch_size),
        seed=0,
        timer=StepTimer(clock_of(torch.device(args.device))),
    )
    generator = torch.Generator(args.device)
    x0, y = torch.randn(args.batch_size, *SHAPE, device=args.device), batches.batch(0)[1]
    return case(args, denoiser, update, lambda: objective(denoiser, x0, y, generator).mean())


def step(
    args: argparse.Namespace, parameters: list[nn.Parameter], loss: Run, average: Run
) -> Callable[[], None]:
    """What both peers' trainers do, without their accelerator's extra calls."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def run() -> None:
        loss().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average()

    return run


def ddpm_pytorch(args: argparse.Namespace, *, channels_last: bool) -> Case:
    """denoising-diffusion-pytorch: its U-Net, its loss, its EMA at every tenth step."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    network = Unet(dim=32, dim_mults=(1, 2), channels=1, full_attn=(False, False))
    diffusion = GaussianDiffusion(network, image_size=28, timesteps=1000).to(args.device)
    images = torch.rand(args.batch_size, *SHAPE, device=args.device)
    if channels_last:
        network.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    ema = EMA(diffusion, beta=0.995, update_every=10)

    def loss() -> Tensor:
        with autocast(args):
            return diffusion(images)

    return case(args, network, step(args, list(diffusion.parameters()), loss, ema.update), loss)


def diffusers(args: argparse.Namespace, *, channels_last: bool, groups: int = 8) -> Case:
    """diffusers: its U-Net, its scheduler and its EMA, as in its unconditional example."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    network = diffusers_unet(groups=groups).to(args.device)
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    images = torch.rand(args.batch_size, *SHAPE, device=args.device)
    if channels_last:
        network.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    ema = EMAModel(network.parameters(), foreach=True)

    def loss() -> Tensor:
        eps = torch.randn_like(images)
        t = torch.randint(0, 1000, (len(images),), device=args.device)
        with autocast(args):
            output = network(scheduler.add_noise(2 * images - 1, eps, t), t).sample
        return (output.float() - eps).square().mean()

    parameters = list(network.parameters())
    return case(args, network, step(args, parameters, loss, lambda: ema.step(parameters)), loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"{machine()}; one step of {args.batch_size} images of 28 px")
    for args.bf16 in (False, True):
        cases = {
            "denoising-diffusion-pytorch": ddpm_pytorch(args, channels_last=False),
            "the same, channels last": ddpm_pytorch(args, channels_last=True),
            "diffusers": diffusers(args, channels_last=False),
            "diffusers, channels last": diffusers(args, channels_last=True),
            "diffusers, channels last and 2 groups": diffusers(args, channels_last=True, groups=2),
            "ccdiff": ours(args),
        }
        taken = interleave(cases, rounds=args.rounds)
        print(f"\n{'bf16' if args.bf16 else 'fp32'}\n\n{table(cases, taken)}")


if __name__ == "__main__":
    main()
