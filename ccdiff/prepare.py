"""Prepares a data set ahead of training: ``python -m ccdiff.prepare data=celebahq``."""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING, DictConfig

from ccdiff.launch.entry import command

__all__ = ["PrepareConfig", "main", "prepare_data"]


@dataclass
class PrepareConfig:
    """What ``python -m ccdiff.prepare`` takes."""

    data: Any = MISSING
    conditioning: Any = None
    """Of no effect; here because data sets bring theirs along."""


def prepare_data(cfg: DictConfig) -> None:
    """Fetches, decodes and checks, then says what there is."""
    # Commands are imported before there is a config, and torch takes seconds to import.
    from ccdiff.config.build import build_data
    from ccdiff.data import ImageFiles, describe

    data = build_data(cfg)
    if isinstance(data, ImageFiles):
        prepared = data.prepare()
        prepared.verify()
        print(f"{prepared.path}: every byte is as it was written")
    train, heldout = data.load()
    shape = " x ".join(str(length) for length in data.image_shape)
    print("\n".join(describe(train, heldout, data.names)))
    print(f"{shape} each")


main = command(
    "prepare",
    about="Fetches, decodes and checks a data set ahead of training.",
    job="ccdiff.prepare:prepare_data",
    schema=PrepareConfig,
)

if __name__ == "__main__":
    main()
