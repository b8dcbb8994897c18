"""Exports a run to hand it on: ``python -m ccdiff.export run=latest out=my_model``."""

from dataclasses import dataclass

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from ccdiff.config import schema
from ccdiff.launch.entry import command

__all__ = ["ExportConfig"]


@dataclass
class ExportConfig:
    """What ``python -m ccdiff.export`` takes; conf/export.yaml says what each key means."""

    run: str | None = None
    out: str | None = None
    weights: str = "ema"


ConfigStore.instance().store(name="export_schema", node=ExportConfig)


@hydra.main(version_base="1.3", config_path="../../conf", config_name="export")
@command
def main(cfg: DictConfig) -> None:
    """Writes model.safetensors, config.yaml and README.md to ``out``."""
    # torch takes seconds to import: --help and --cfg job must not wait for it.
    from ccdiff.export.job import run_export

    run_export(schema.typed(cfg, ExportConfig))


if __name__ == "__main__":
    main()
