"""Images per second of training with data, from files in a folder to averaged weights.

``uv run --group bench python -m tests.benchmarks.end_to_end`` prints two tables. In the first
everybody trains from the same folder of PNGs with the loop they come with: ccdiff with what
``train.py`` runs between its first and last step, rows of metrics included, checkpoints and
pictures excluded; denoising-diffusion-pytorch with its Trainer; diffusers with the loop of its
example; azula with that of its tutorials. The second is what the loop of ccdiff costs over the
bare step on a batch that is there.
"""

import argparse
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ccdiff.config.build import build_data
from tests.benchmarks.kit import Case, interleave, machine, table, training_flops
from tests.benchmarks.ours import NOISE, assembled, bare_step, composed, loop

SIZE = 28


def write_images(folder: Path, *, num: int, root: str | None) -> None:
    """PNGs in a folder per class: of MNIST under ``root``, else noise."""
    if root is None:
        images = np.random.default_rng(0).integers(0, 256, (num, SIZE, SIZE), np.uint8)
        labels = np.arange(num) % 10
    else:
        split = build_data(composed("data=mnist", f"data.root={root}")).load()[0].take(num)
        images, labels = split.images[:, 0].numpy(), split.labels.numpy()
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def repeated(run: Callable[[], object], times: int) -> Callable[[], None]:
    def run_all() -> None:
        for _ in range(times):
            run()

    return run_all


def against_peers(args: argparse.Namespace, folder: Path) -> dict[str, Case]:
    """Everybody's loop on the same folder."""
    from tests.benchmarks.peer_loops import azula_loop, ddpm_loop, diffusers_loop

    images = folder / "images"
    write_images(images, num=args.images, root=args.root)
    ours = assembled(
        "experiment=mnist",
        "data=folder",
        f"data.root={images}",
        f"data.cache={folder / 'cache'}",
        f"data.image_size={SIZE}",
        "data.channels=1",
        f"trainer.batch_size={args.batch_size}",
        *args.overrides,
        folder=folder / "run",
    )
    common = {
        "image_size": SIZE,
        "batch_size": args.batch_size,
        "steps": args.steps,
        "bf16": ours.state.denoiser.autocast_dtype is not None,
    }
    loops = {
        "denoising-diffusion-pytorch's Trainer": ddpm_loop(images, folder / "results", **common),
        "diffusers' example": diffusers_loop(images, workers=args.workers, **common),
        "azula's tutorials": azula_loop(images, **common),
    }
    num = args.batch_size * args.steps
    cases = {
        name: Case(
            run=peer.run,
            images=num,
            network=peer.network,
            flops=training_flops(peer.loss, peer.network, (1, SIZE, SIZE)),
        )
        for name, peer in loops.items()
    }
    cases["ccdiff"] = Case(
        run=loop(ours, steps=args.steps),
        images=num,
        network=ours.state.denoiser,
        flops=ours.speed.flops_per_image,
    )
    return cases


def over_the_step(args: argparse.Namespace, folder: Path) -> dict[str, Case]:
    """The loop against the bare step, the same training in turns."""
    training = assembled(*args.overrides, folder=folder / "run")
    images = training.settings.batch_size * args.steps
    settings = {
        "images": images,
        "network": training.state.denoiser,
        "flops": training.speed.flops_per_image,
    }
    return {
        "the bare step": Case(run=repeated(bare_step(training), args.steps), **settings),
        "the loop": Case(run=loop(training, steps=args.steps), **settings),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="where MNIST lies; noise without")
    parser.add_argument(
        "--images", type=int, default=2048, help="how many lie in the folder, at least 100"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="with peers at least 16")
    parser.add_argument("--steps", type=int, default=4, help="steps of each case in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0, help="of diffusers' example")
    parser.add_argument("--only", choices=("peers", "loop"), help="one of the two tables")
    parser.add_argument("overrides", nargs="*", help="of ccdiff's config, as for train.py")
    args = parser.parse_intermixed_args()
    logging.disable(logging.WARNING)
    print(machine())
    given = args.overrides
    with tempfile.TemporaryDirectory() as name:
        if args.only != "loop":
            cases = against_peers(args, Path(name) / "peers")
            title = f"{args.batch_size} images of {SIZE} px a step, {args.images} in the folder"
            print(f"\n{title}\n\n{table(cases, interleave(cases, rounds=args.rounds, warmup=1))}")
        if args.only != "peers":
            mnist = (*NOISE, f"trainer.batch_size={args.batch_size}")
            for title, overrides in {"digits, as by default": (), "28 px": mnist}.items():
                args.overrides = [*overrides, *given]
                cases = over_the_step(args, Path(name) / title)
                taken = interleave(cases, rounds=args.rounds, warmup=1)
                print(f"\n{title}\n\n{table(cases, taken)}")


if __name__ == "__main__":
    main()
