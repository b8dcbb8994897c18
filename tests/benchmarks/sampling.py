"""Images per second of what ``sample.py`` runs, against a diffusers pipeline and azula's sampler.

``uv run --group bench python -m tests.benchmarks.sampling`` prints the table. All draw as many
images in as many steps of DDIM with a U-Net of the same number of parameters; the others have no
labels, which spares them work.
"""

import argparse
import logging

import torch

from ccdiff.config.build import build_denoiser
from ccdiff.diffusion.guidance import NoGuidance
from ccdiff.diffusion.samplers import DDIM
from ccdiff.diffusion.thresholding import Clip
from ccdiff.generation.pipeline import Pipeline
from tests.benchmarks.kit import Case, interleave, machine, measure_flops, shares, table
from tests.benchmarks.ours import composed
from tests.benchmarks.peers import azula_denoiser, diffusers_unet


def ours(args: argparse.Namespace, dtype: torch.dtype | None) -> Case:
    denoiser = build_denoiser(composed("experiment=mnist"))
    denoiser.eval().to(args.device).autocast_dtype = dtype
    pipeline = Pipeline(
        sampler=DDIM(steps=args.steps),
        guidance=NoGuidance(),
        threshold=Clip(),
        image_shape=(1, 28, 28),
        batch_size=args.images,
    )
    y = torch.arange(args.images) % 10
    network = denoiser.network
    x = torch.randn(1, 1, 28, 28, device=args.device)
    level = denoiser.schedule.at(torch.zeros(1, device=args.device))
    with torch.no_grad():
        flops = measure_flops(lambda: denoiser(x, level, y[:1].to(args.device)), images=1)
    return Case(
        run=lambda: pipeline(denoiser, y, None, seeds=range(args.images)),
        images=args.images,
        network=network,
        flops=flops * args.steps,
    )


def diffusers(args: argparse.Namespace, *, autocast: bool) -> Case:
    from diffusers import DDIMPipeline, DDIMScheduler

    unet = diffusers_unet()
    unet.eval().to(args.device)
    pipeline = DDIMPipeline(unet=unet, scheduler=DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    x = torch.randn(1, 1, 28, 28, device=args.device)
    with torch.no_grad():
        flops = measure_flops(lambda: unet(x, torch.tensor(10)), images=1)

    def run() -> None:
        with torch.autocast(args.device, torch.bfloat16, enabled=autocast):
            pipeline(args.images, num_inference_steps=args.steps, output_type="np")

    return Case(run=run, images=args.images, network=unet, flops=flops * args.steps)


def azula(args: argparse.Namespace, *, autocast: bool) -> Case:
    """azula, as it comes."""
    from azula.sample import DDIMSampler

    denoiser = azula_denoiser().eval().to(args.device)
    sampler = DDIMSampler(denoiser, steps=args.steps, silent=True)
    x, time = torch.randn(1, 1, 28, 28, device=args.device), torch.ones((), device=args.device)
    with torch.no_grad():
        flops = measure_flops(lambda: denoiser(x, time), images=1)

    def run() -> None:
        noise = sampler.init((args.images, 1, 28, 28), device=args.device)
        with torch.autocast(args.device, torch.bfloat16, enabled=autocast):
            ((sampler(noise) + 1) / 2).clip(0, 1).cpu()

    return Case(run=run, images=args.images, network=denoiser, flops=flops * args.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="both, unless given")
    parser.add_argument("--profile", action="store_true", help="where the time goes, instead")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"{machine()}; {args.images} images in {args.steps} steps of DDIM\n")
    dtypes = {"fp32": None, "bf16": torch.bfloat16}
    for title in (args.precision,) if args.precision else dtypes:
        dtype = dtypes[title]
        cases = {
            "diffusers": diffusers(args, autocast=dtype is not None),
            "azula": azula(args, autocast=dtype is not None),
            "ccdiff": ours(args, dtype),
        }
        if args.profile:
            print(f"{title}\n\n{shares(cases)}\n")
            continue
        taken = interleave(cases, rounds=args.rounds, warmup=1)
        print(f"{title}\n\n{table(cases, taken)}\n")


if __name__ == "__main__":
    main()
