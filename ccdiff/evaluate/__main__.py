"""Fidelity of a run, as numbers: ``python -m ccdiff.evaluate run=latest n=10000``.

``python -m ccdiff.evaluate samples=theirs.npz data=mnist`` judges pictures that others made.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from ccdiff.config import schema
from ccdiff.launch.arguments import sampling_arguments
from ccdiff.launch.entry import command
from ccdiff.settings import Precision

__all__ = ["EvaluateConfig", "JudgeConfig", "main"]


@dataclass
class EvaluateConfig:
    """What ``python -m ccdiff.evaluate`` takes; conf/evaluate.yaml says what each key means."""

    extractor: Any = MISSING
    sampler: Any = MISSING
    threshold: Any = MISSING
    guidance: Any = MISSING
    schedule: Any = None
    run: str | None = None
    n: int = MISSING
    seed: int = MISSING
    name: str | None = None
    format: str = MISSING
    against: str | None = None
    weights: str = MISSING
    heldout_images: int = MISSING
    likelihood_images: int = MISSING
    likelihood_steps: int = MISSING
    batch_size: int | str = MISSING
    device: str = MISSING
    precision: Precision = Precision.auto
    cache: str = MISSING
    data: schema.MovedData = field(default_factory=schema.MovedData)


@dataclass
class JudgeConfig:
    """What it takes with ``samples=``; conf/evaluate_samples.yaml says what each key means."""

    samples: str = MISSING
    data: Any = MISSING
    extractor: Any = MISSING
    out: str | None = None
    device: str = MISSING
    cache: str = MISSING
    conditioning: Any = None
    """Of no effect; here because data sets bring theirs along."""


_evaluate = command(
    "evaluate",
    about="Says in figures how good the samples of a run are.",
    job="ccdiff.evaluate.job:run_evaluation",
    schema=EvaluateConfig,
    rewrite=sampling_arguments,
    several=True,
)

_judge = command(
    "evaluate_samples",
    about="Says in figures how good pictures are that others made.",
    job="ccdiff.evaluate.given:run_judging",
    schema=JudgeConfig,
)


def main() -> None:
    """Evaluates a run; with ``samples=``, pictures that were made elsewhere."""
    given = any(argument.startswith("samples=") for argument in sys.argv[1:])
    (_judge if given else _evaluate)()


if __name__ == "__main__":
    main()
