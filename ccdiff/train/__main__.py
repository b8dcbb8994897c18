"""Trains one run, or a sweep of them: ``python train.py``; conf/train.yaml lists the groups."""

from ccdiff.launch.entry import command

__all__ = ["main"]

main = command(
    "train",
    job="ccdiff.train.job:train_job",
    schema="ccdiff.config.schema:TrainConfig",
    rewrite="ccdiff.launch.arguments:resume_arguments",
    several=True,
    sweeps=True,
    about="Trains a class-conditional diffusion model, or a sweep of them.",
)

if __name__ == "__main__":
    main()
