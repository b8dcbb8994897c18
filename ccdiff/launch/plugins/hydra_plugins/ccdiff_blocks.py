"""``hydra/sweeper=blocks``: Hydra takes sweepers from this namespace package alone."""

from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

__all__ = ["BlockSweeper"]


class BlockSweeper(Sweeper):
    """Launches the jobs of :func:`ccdiff.launch.blocks.jobs`, all by one call of the launcher.

    Arguments:
        blocks: Values by key, several times.
        seeds: Those of ``seed``, with each of which all blocks are run.
    """

    def __init__(self, *, blocks: list[dict[str, Any]], seeds: str | int) -> None:
        self.blocks = blocks
        self.seeds = seeds
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.hydra_context: HydraContext | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        # Hydra imports plugins with every command, of which few sweep.
        from ccdiff.launch.blocks import in_recipe, jobs

        assert self.config is not None
        assert self.launcher is not None
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        # Jobs are not composed here first, as other sweepers do: of hundreds it takes minutes.
        batch = jobs(
            self.blocks, seeds=self.seeds, arguments=arguments, recipe=in_recipe(self.config)
        )
        results = self.launcher.launch(batch, initial_job_idx=0)
        for result in results:
            _ = result.return_value  # Raises what a job has raised.
        return [results]
