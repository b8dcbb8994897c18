"""Exports a run to hand it on: ``python -m ccdiff.export run=latest out=my_model``."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from ccdiff.launch.entry import command

__all__ = ["ExportConfig", "main"]


@dataclass
class ExportConfig:
    """What ``python -m ccdiff.export`` takes; conf/export.yaml says what each key means."""

    sampler: Any = None
    run: str | None = None
    out: str | None = None
    weights: str = "ema"
    format: str = "safetensors"
    runtime: str | None = None
    push: str | None = None
    private: bool = True
    licence: str = "other"
    data_licence: str | None = None


ConfigStore.instance().store(name="export_schema", node=ExportConfig)


main = command(
    "export",
    about="Puts a trained model into a folder to hand on.",
    job="ccdiff.export.job:run_export",
    schema=ExportConfig,
)

if __name__ == "__main__":
    main()
