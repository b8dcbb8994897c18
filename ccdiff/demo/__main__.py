"""Opens a page that draws with a run: ``python -m ccdiff.demo run=latest``."""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore

from ccdiff.launch.entry import command

__all__ = ["DemoConfig", "main"]


@dataclass
class DemoConfig:
    """What ``python -m ccdiff.demo`` takes; conf/demo.yaml says what each key means."""

    run: str | None = None
    beside: str | None = None
    device: str = "auto"
    port: int = 7860
    open: bool = False


ConfigStore.instance().store(name="demo_schema", node=DemoConfig)


main = command(
    "demo",
    about="Serves a page that draws, on this machine.",
    job="ccdiff.demo.job:run_demo",
    schema=DemoConfig,
)

if __name__ == "__main__":
    main()
