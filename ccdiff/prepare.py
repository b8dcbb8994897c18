"""Prepares a data set ahead of training: ``python -m ccdiff.prepare data=celebahq``."""

from dataclasses import dataclass
from typing import Any

import hydra
from omegaconf import MISSING, DictConfig

from ccdiff.config import schema
from ccdiff.launch.entry import command

__all__ = ["PrepareConfig"]


@dataclass
class PrepareConfig:
    """What ``python -m ccdiff.prepare`` takes."""

    data: Any = MISSING
    conditioning: Any = None
    """Of no effect; here because data sets bring theirs along."""


@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare")
@command
def main(cfg: DictConfig) -> None:
    """Fetches, decodes and checks, then says what there is."""
    # torch takes seconds to import: --help and --cfg job must not wait for it.
    from ccdiff.config.build import build_data
    from ccdiff.data import ImageFiles, describe

    data = build_data(schema.typed(cfg, PrepareConfig))
    if isinstance(data, ImageFiles):
        prepared = data.prepare()
        prepared.verify()
        print(f"{prepared.path}: every byte is as it was written")
    train, heldout = data.load()
    shape = " x ".join(str(length) for length in data.image_shape)
    print("\n".join(describe(train, heldout, data.names)))
    print(f"{shape} each")


if __name__ == "__main__":
    main()
