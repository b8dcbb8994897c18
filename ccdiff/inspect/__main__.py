"""Shows what a data set holds: ``python -m ccdiff.inspect data=celebahq out=report``."""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from ccdiff.launch.entry import command

__all__ = ["InspectConfig", "main"]


@dataclass
class InspectConfig:
    """What ``python -m ccdiff.inspect`` takes."""

    data: Any = MISSING
    out: str | None = None
    """Folder to write to; None is a new one in inspection/."""
    images_per_label: int = 12
    """Columns of the contact sheet."""
    conditioning: Any = None
    """Of no effect; here because data sets bring theirs along."""


main = command("inspect", job="ccdiff.inspect.job:run_inspection", schema=InspectConfig)

if __name__ == "__main__":
    main()
