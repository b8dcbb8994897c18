"""Trains one run, or a sweep of them: ``python train.py``; conf/train.yaml lists the groups."""

from ccdiff.config.schema import TrainConfig
from ccdiff.launch.arguments import resume_arguments
from ccdiff.launch.entry import command

__all__ = ["main"]

main = command(
    "train",
    job="ccdiff.train.job:train_job",
    schema=TrainConfig,
    rewrite=resume_arguments,
    several=True,
    sweeps=True,
)

if __name__ == "__main__":
    main()
