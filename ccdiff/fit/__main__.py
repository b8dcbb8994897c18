"""Fits coefficients and times: ``python -m ccdiff.fit run=latest sampler=fitted steps=[5,10]``."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from ccdiff.config import schema
from ccdiff.launch.entry import command
from ccdiff.settings import Precision

__all__ = ["FitConfig", "main"]


@dataclass
class FitConfig:
    """What ``python -m ccdiff.fit`` takes; conf/fit.yaml says what each key means."""

    sampler: Any = MISSING
    threshold: Any = MISSING
    guidance: Any = MISSING
    schedule: Any = None
    run: str | None = None
    steps: list[int] = MISSING
    images: int | None = None
    tries: int = MISSING
    rounds: int = MISSING
    batch_size: int = MISSING
    solution_steps: int = MISSING
    seed: int = MISSING
    weights: str = MISSING
    device: str = MISSING
    precision: Precision = Precision.auto
    data: schema.MovedData = field(default_factory=schema.MovedData)


main = command(
    "fit",
    about="Fits grids of times to a run, for few steps.",
    job="ccdiff.fit.job:run_fit",
    schema=FitConfig,
)

if __name__ == "__main__":
    main()
