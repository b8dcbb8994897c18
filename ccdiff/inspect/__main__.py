"""Shows what a data set holds: ``python -m ccdiff.inspect data=celebahq out=report``."""

from dataclasses import dataclass
from typing import Any

import hydra
from omegaconf import MISSING, DictConfig

from ccdiff.config import schema
from ccdiff.launch.entry import command

__all__ = ["InspectConfig"]


@dataclass
class InspectConfig:
    """What ``python -m ccdiff.inspect`` takes."""

    data: Any = MISSING
    out: str = "inspection"
    """Folder to write to."""
    images_per_label: int = 12
    """Columns of the contact sheet."""
    conditioning: Any = None
    """Of no effect; here because data sets bring theirs along."""


@hydra.main(version_base="1.3", config_path="../../conf", config_name="inspect")
@command
def main(cfg: DictConfig) -> None:
    """Writes contact_sheet.png, counts.png, cooccurrence.png, duplicates.png, inspection.json."""
    # torch takes seconds to import: --help and --cfg job must not wait for it.
    from ccdiff.inspect.job import run_inspection

    run_inspection(schema.typed(cfg, InspectConfig))


if __name__ == "__main__":
    main()
