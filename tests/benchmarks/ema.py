"""What averaging the weights costs a step, against the averages that others come with.

``uv run --group bench python -m tests.benchmarks.ema`` prints a table for the parameters of each
model. denoising-diffusion-pytorch's trainer averages every tenth step, and so costs a tenth; azula
brings no average, and its tutorials have torch's.
"""

import argparse
import logging
from collections.abc import Callable

from torch import nn

from ccdiff.config.build import build_denoiser, instantiate
from ccdiff.system.device import pick_device
from tests.benchmarks.kit import Case, Run, count, durations, interleave, machine
from tests.benchmarks.ours import composed
from tests.benchmarks.peers import azula_peer, ddpm_peer

MODELS = ("unet_mnist", "unet_large")


def averages(network: nn.Module, configured: Callable[[nn.Module], object]) -> dict[str, Run]:
    """One update of each kind, as each is called after a step."""
    from diffusers.training_utils import EMAModel

    parameters = list(network.parameters())
    peers = {
        "diffusers' EMAModel": EMAModel(parameters, use_ema_warmup=True, power=0.75),
        "the same, foreach": EMAModel(parameters, use_ema_warmup=True, power=0.75, foreach=True),
    }
    return {
        "ccdiff, as configured": configured(network).update,
        "denoising-diffusion-pytorch's, every 10th step": ddpm_peer(network).average,
        **{name: lambda ema=ema: ema.step(parameters) for name, ema in peers.items()},
        "torch's AveragedModel, as for azula": azula_peer(network).average,
    }


def cases(model: str, args: argparse.Namespace) -> tuple[int, dict[str, Case]]:
    """The size of a model, and ``args.updates`` updates of each average of it."""
    cfg = composed("experiment=mnist", f"model={model}", *args.overrides)
    denoiser = build_denoiser(cfg).to(pick_device(cfg.trainer.device))

    def repeated(update: Run) -> Run:
        return lambda: [update() for _ in range(args.updates)]

    named = averages(denoiser, instantiate(cfg.ema))
    return count(denoiser), {
        name: Case(run=repeated(update), images=args.updates) for name, update in named.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=10, help="of each case in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("overrides", nargs="*", help="of ccdiff's config, such as ema=karras")
    args = parser.parse_intermixed_args()
    logging.disable(logging.WARNING)
    print(machine())
    for model in args.models:
        size, compared = cases(model, args)
        taken = interleave(compared, rounds=args.rounds)
        print(f"\n{model}, {size / 1e6:.1f} M parameters\n")
        print(durations(taken, each="step", per=args.updates))


if __name__ == "__main__":
    main()
