"""Samples from a trained run: ``python sample.py run=latest labels=[3,7] num_per_label=8``."""

from ccdiff.config.schema import SampleConfig
from ccdiff.launch.arguments import sampling_arguments
from ccdiff.launch.entry import command

__all__ = ["main"]

main = command(
    "sample",
    job="ccdiff.sample.job:run_sampling",
    schema=SampleConfig,
    rewrite=sampling_arguments,
    several=True,
)

if __name__ == "__main__":
    main()
