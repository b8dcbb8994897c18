"""Trains a class-conditional diffusion model: ``python train.py --help`` lists the groups."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ccdiff.config import schema
from ccdiff.errors import UserError
from ccdiff.launch.arguments import resume_arguments
from ccdiff.launch.entry import end_before_parsing, rank_arguments, shared_command
from ccdiff.launch.sweeps import keep_going

schema.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@keep_going
@shared_command
def main(cfg: DictConfig) -> float:
    """Trains one run; returns its final held-out error, which sweepers minimise."""
    # torch takes seconds to import: --help and --cfg job must not wait for it.
    from ccdiff.train.job import run_experiment

    return run_experiment(schema.typed(cfg, schema.TrainConfig), HydraConfig.get())


if __name__ == "__main__":
    try:
        sys.argv[1:] = rank_arguments(resume_arguments(sys.argv[1:]))
    except UserError as error:
        end_before_parsing(error)
    main()
