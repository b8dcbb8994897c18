"""Fidelity of a run, as numbers: ``python -m ccdiff.evaluate run=latest n=10000``."""

import sys
from dataclasses import dataclass, field
from typing import Any

import hydra
from omegaconf import MISSING, DictConfig

from ccdiff.config import schema
from ccdiff.errors import UserError
from ccdiff.launch.arguments import sampling_arguments
from ccdiff.launch.entry import end_before_parsing, rank_arguments, shared_command
from ccdiff.settings import Precision

__all__ = ["EvaluateConfig"]


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


@hydra.main(version_base="1.3", config_path="../../conf", config_name="evaluate")
@shared_command
def main(cfg: DictConfig) -> None:
    """Writes metrics.json and index.html to a folder of the run."""
    # torch takes seconds to import: --help and --cfg job must not wait for it.
    from ccdiff.evaluate.job import run_evaluation

    run_evaluation(schema.typed(cfg, EvaluateConfig))


if __name__ == "__main__":
    try:
        sys.argv[1:] = rank_arguments(sampling_arguments(sys.argv[1:]))
    except UserError as error:
        end_before_parsing(error)
    main()
