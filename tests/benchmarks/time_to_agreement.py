"""CPU seconds of training until samples show the digit asked for, on MNIST, against three peers.

``uv run --group bench python -m tests.benchmarks.time_to_agreement`` prints the table. A fixed
classifier, trained on real digits once and kept, judges 20 samples of each digit. The target is
reached where the judged share is at or above it at two looks in a row; the first of them counts.

Training alone is timed, in CPU seconds of this process, so that others on the machine do not
matter much; drawing and judging are reported apart. The case whose next look is nearest goes next,
so that all share the machine's ups and downs. Looks come more often near the target.
"""

import argparse
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ccdiff.config.build import build_data
from ccdiff.data import Split
from ccdiff.metrics.agreement import label_agreement
from ccdiff.metrics.classifier import Classifier, load_classifier
from tests.benchmarks.kit import machine
from tests.benchmarks.learners import STEPS, Learner, Ours
from tests.benchmarks.ours import composed
from tests.benchmarks.peer_learners import Azula, DDPMPytorch, Diffusers, Recipe
from tests.benchmarks.racing import Racer, race, table

OURS = (
    "experiment=mnist_fast guidance.scale=3 trainer.steps=140 trainer.warmup=15 "
    "trainer.cooldown=125"
)
"""The first case, with which others are compared: its length was searched, as theirs was."""

_PATCHED = Recipe(channels=(32, 32, 64), blocks=1, patch=2, scale_shift=True, logit_mean=0.5)

_CLEAN = replace(_PATCHED, clean=True)

PEERS: dict[str, tuple[type[Diffusers] | type[DDPMPytorch] | type[Azula], Recipe]] = {
    "diffusers": (Diffusers, replace(_PATCHED, lr=4e-3, train_steps=400)),
    "diffusers with our optimizer": (
        Diffusers,
        replace(_PATCHED, muon=True, lr=6e-3, train_steps=150),
    ),
    "diffusers, clean image": (Diffusers, replace(_CLEAN, lr=4e-3, train_steps=400)),
    "diffusers, clean image, our optimizer": (
        Diffusers,
        replace(_CLEAN, muon=True, lr=8e-3, train_steps=150),
    ),
    "azula": (Azula, replace(_PATCHED, lr=4e-3, train_steps=380)),
    "azula with our optimizer": (
        Azula,
        replace(_PATCHED, muon=True, lr=6e-3, train_steps=170),
    ),
    "azula, clean image": (Azula, replace(_CLEAN, lr=4e-3, train_steps=380)),
    "azula, clean image, our optimizer": (
        Azula,
        replace(_CLEAN, muon=True, lr=8e-3, train_steps=170),
    ),
    "denoising-diffusion-pytorch": (
        DDPMPytorch,
        replace(_PATCHED, logit_mean=None, lr=4e-3, train_steps=380),
    ),
}


def cases(
    split: Split, *, root: Path, seed: int, ours: Sequence[str] = (OURS,)
) -> dict[str, Callable[[], Learner]]:
    """What makes the learner of each row; ``ours`` are overrides, several in one text."""
    common = [
        f"data.root={root}",
        "tracker=none",
        "sampler=ancestral",
        f"sampler.steps={STEPS}",
        "threshold=none",
    ]
    made: dict[str, Callable[[], Learner]] = {
        f"ccdiff, `{recipe}`": partial(Ours, split, [*recipe.split(), *common], seed=seed)
        for recipe in (*ours, "experiment=mnist")
    }
    for name, (kind, recipe) in PEERS.items():
        made[name] = partial(kind, split, recipe, seed=seed)
    return made


def agreement_judge(classifier: Classifier, *, per_class: int = 20) -> Callable[[Learner], float]:
    """Draws as many of each digit, and has the classifier judge them."""
    y = torch.arange(10 * per_class) % 10
    return lambda learner: label_agreement(classifier.logits(learner.draw(y)), y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=float, default=0.95, help="agreement to reach")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="holds MNIST")
    parser.add_argument("--cache", type=Path, default=Path(".ccdiff_cache"), help="for the judge")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--first", type=float, default=5, help="seconds before the first look")
    parser.add_argument("--limit", type=float, default=600, help="seconds of training at most")
    parser.add_argument("--ours", nargs="+", default=[OURS], help="overrides, a row each")
    parser.add_argument("--only", nargs="*", help="parts of the names of the cases to run")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    # CPU seconds of several threads that wait for each other would count the waiting.
    torch.set_num_threads(1)
    data = build_data(composed("data=mnist", f"data.root={args.data_root}"))
    split, heldout = data.load()
    classifier = load_classifier(split, heldout, num_labels=10, flip=False, cache=args.cache)
    racers: dict[str, list[Racer]] = {}
    flops: dict[str, float] = {}
    # Stopped by Ctrl-C, it tables what is known so far.
    with suppress(KeyboardInterrupt):
        for seed in args.seeds:
            made = {
                name: Racer(f"{name}, seed {seed}", make())
                for name, make in cases(
                    split, root=args.data_root, seed=seed, ours=args.ours
                ).items()
                if not args.only or any(part in name for part in args.only)
                # What one seed took too long for is not tried with another.
                if all(racer.reached(args.target) for racer in racers.get(name, []))
            }
            for name, racer in made.items():
                flops.setdefault(name, racer.learner.flops())
                racers.setdefault(name, []).append(racer)
            race(
                made.values(),
                agreement_judge(classifier),
                target=args.target,
                first=args.first,
                limit=args.limit,
            )
    print(f"{machine()}; {100 * args.target:.0f} % label agreement, seeds {args.seeds}\n")
    print(table(racers, flops, args.target))


if __name__ == "__main__":
    main()
