"""CPU seconds of training to MNIST samples as good and as varied as real digits, against peers.

``uv run --group bench python -m tests.benchmarks.time_to_good`` prints the table. Good is what
``experiment=mnist_good`` aims at, of 1,000 samples: 99 % show the digit asked for, the distance of
a classifier's features to held-out images is at most twice that of as many real images, and the
recall at least 0.85 of theirs.

A case is a recipe of a fixed length, at whose end its learning rate is zero, and is judged there:
with each scale of guidance in each number of steps, of which the best counts. Peers are given the
length that takes ``--times`` as many CPU seconds as the first case took; each then has its own
number of steps. Training alone is timed; judging is not.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import torch

from ccdiff.data import Split
from ccdiff.metrics.distances import KINDS, distances
from ccdiff.metrics.judge import images_like
from ccdiff.metrics.references import asked_labels
from tests.benchmarks.ideas_data import Judged, open_judged
from tests.benchmarks.kit import count, machine
from tests.benchmarks.learners import Learner, Ours
from tests.benchmarks.ours import composed
from tests.benchmarks.peer_learners import Azula, Diffusers, Recipe

__all__ = ["Found", "Row", "Standard", "best", "main", "table"]

OURS = "experiment=mnist_good"
SCALES = (1.1, 1.2, 1.25, 1.3, 1.4)
"""Of guidance, with each of which every case is judged."""
STEPS = (14, 25)
"""Of ancestral samplers, in each of which every case is judged."""
_PROBE = 20
"""Steps that tell how many fit into the time."""

_PEER = Recipe(
    channels=(48, 64, 96),
    clean=True,
    blocks=1,
    patch=2,
    scale_shift=True,
    logit_mean=0.2,
    batch_size=64,
    warmup=50,
    lr=2e-3,
)
PEERS: dict[str, tuple[type[Diffusers] | type[Azula], Recipe]] = {
    "diffusers": (Diffusers, _PEER),
    "diffusers with our optimizer": (Diffusers, replace(_PEER, muon=True, lr=5e-3, momentum=0.9)),
    "azula": (Azula, _PEER),
    "azula with our optimizer": (Azula, replace(_PEER, muon=True, lr=5e-3, momentum=0.9)),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What samples come to.

    Arguments:
        scale: Of guidance; 1 is none.
        steps: Of the sampler; 0 of real images.
        agreement: Share that shows the digit asked for.
        distance: Of the classifier's features to held-out images.
        recall: Share of held-out images that lie among the samples.
    """

    scale: float
    steps: int
    agreement: float
    distance: float
    recall: float


@dataclass(frozen=True, kw_only=True)
class Standard:
    """What is good, in the figures of as many real images.

    Arguments:
        real: Their figures.
        agreement: Least share.
        distance: Most distance, in theirs.
        recall: Least recall, in theirs.
    """

    real: Found
    agreement: float = 0.99
    distance: float = 2.0
    recall: float = 0.85

    def shortfall(self, found: Found) -> float:
        """How far the worst of the three is from good; 0 where all are.

        Errors and distances count by their ratio to what is allowed, recall by what it lacks.
        """
        return max(
            0.0,
            (1 - found.agreement) / (1 - self.agreement) - 1,
            found.distance / (self.distance * self.real.distance) - 1,
            1 - found.recall / (self.recall * self.real.recall),
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """A case after its training."""

    name: str
    parameters: int
    flops: float
    steps: int
    seconds: float
    looks: Sequence[Found]


def best(looks: Sequence[Found], standard: Standard) -> Found:
    """The look that is nearest to good, and the less guided one of two that are as near."""
    return min(looks, key=lambda found: (standard.shortfall(found), found.scale))


def table(rows: Sequence[Row], standard: Standard) -> str:
    """Markdown: one row per case with its best look, times as ratios to the first."""
    real = standard.real
    lines = [
        "| case | parameters | GFLOPs per image | steps | CPU seconds | against the first "
        "| guidance, steps | label agreement | fd_classifier | recall | good |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = best(row.looks, standard)
        good = "yes" if standard.shortfall(found) == 0 else "no"
        lines.append(
            f"| {row.name} | {row.parameters / 1e6:.2f} M | {row.flops / 1e9:.3f} | {row.steps:,} "
            f"| {row.seconds:.0f} | {row.seconds / rows[0].seconds:.1f} "
            f"| {found.scale:g}, {found.steps} "
            f"| {found.agreement:.1%} | {found.distance:.2f} | {found.recall:.2f} | {good} |"
        )
    lines.append(
        f"| as many real images | | | | | | | {real.agreement:.1%} | {real.distance:.2f} "
        f"| {real.recall:.2f} | |"
    )
    return "\n".join(lines)


class _Eye:
    """Judges learners of one data set by ``n`` samples of theirs."""

    def __init__(self, judged: Judged, *, n: int) -> None:
        self.judge, self.heldout = judged.judge, judged.against
        self.y = asked_labels(judged.heldout, n=n, num_labels=judged.num_labels)
        alike = images_like(judged.train, self.y)
        self.standard = Standard(real=self.see(alike.images, alike.labels, scale=1.0, steps=0))

    def see(self, images: torch.Tensor, y: torch.Tensor, *, scale: float, steps: int) -> Found:
        judged = self.judge.judged([(self.judge.look(images), y)])
        values = dict(zip(KINDS, distances(judged.sketch, self.heldout), strict=True))
        return Found(
            scale=scale,
            steps=steps,
            agreement=judged.agreement.mean().item(),
            distance=values["fd"],
            recall=values["recall"],
        )

    def look(
        self, learner: Learner, scales: Sequence[float], steps_each: Sequence[int]
    ) -> list[Found]:
        looks = []
        for steps, scale in product(steps_each, scales):
            learner.draw_by(scale=scale, steps=steps)
            # All at once: each call draws from the same noise.
            looks.append(self.see(learner.draw(self.y), self.y, scale=scale, steps=steps))
            print(looks[-1], file=sys.stderr, flush=True)
        return looks


def _trained(make: Callable[[int], Learner], steps: int) -> tuple[Learner, float]:
    """A learner after so many steps, and the CPU seconds that they took."""
    learner = make(steps)
    started = time.process_time()
    for _ in range(steps):
        learner.step()
    return learner, time.process_time() - started


def _fitting(make: Callable[[int], Learner], seconds: float) -> int:
    """How many steps take so many CPU seconds."""
    learner = make(2 * _PROBE)
    for _ in range(_PROBE):
        learner.step()
    started = time.process_time()
    for _ in range(_PROBE):
        learner.step()
    return max(1, round(seconds * _PROBE / (time.process_time() - started)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="holds MNIST")
    parser.add_argument("--cache", type=Path, default=Path(".ccdiff_cache"), help="for the judge")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=1000, help="samples that are judged")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="of samplers")
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES, help="of guidance")
    parser.add_argument("--ours", default=OURS, help="overrides of the first case")
    parser.add_argument("--seconds", type=float, help="peers' time; else by --times")
    parser.add_argument(
        "--times", type=float, default=4.0, help="peers' time, in the first case's"
    )
    parser.add_argument("--only", nargs="*", help="parts of the names of the peers to run")
    parser.add_argument("--channels", type=int, nargs="+", help="of peers, in place of theirs")
    parser.add_argument("--lr", type=float, help="of peers, in place of theirs")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    # CPU seconds of several threads that wait for each other would count the waiting.
    torch.set_num_threads(1)
    judged = open_judged(["data=mnist", f"data.root={args.data_root}"], cache=args.cache)
    split, eye = judged.train, _Eye(judged, n=args.images)
    rows: list[Row] = []

    def run(name: str, make: Callable[[int], Learner], steps: int) -> None:
        flops = make(steps).flops()
        learner, seconds = _trained(make, steps)
        looks = eye.look(learner, args.scales, args.steps)
        rows.append(
            Row(
                name=name,
                parameters=count(learner.network),
                flops=flops,
                steps=steps,
                seconds=seconds,
                looks=looks,
            )
        )
        print(table(rows, eye.standard), file=sys.stderr, flush=True)

    if args.seconds is None:
        ours = [*args.ours.split(), f"data.root={args.data_root}", "tracker=none"]
        steps = composed(*ours).trainer.steps
        run(f"ccdiff, `{args.ours}`", lambda _: Ours(split, ours, seed=args.seed), steps)
    for name, (kind, recipe) in PEERS.items():
        if args.only is not None and not any(part in name for part in args.only):
            continue
        changed = replace(
            recipe, channels=tuple(args.channels or recipe.channels), lr=args.lr or recipe.lr
        )
        make = partial(_peer, kind, split, changed, args.seed)
        seconds = args.times * rows[0].seconds if args.seconds is None else args.seconds
        run(name, make, _fitting(make, seconds))
    print(f"{machine()}; {args.images} samples, seed {args.seed}\n")
    print(table(rows, eye.standard))


def _peer(
    kind: type[Diffusers] | type[Azula], split: Split, recipe: Recipe, seed: int, steps: int
) -> Learner:
    return kind(split, replace(recipe, train_steps=steps), seed=seed)


if __name__ == "__main__":
    main()
