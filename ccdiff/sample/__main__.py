"""Samples from a trained run: ``python sample.py run=latest labels=[3,7] num_per_label=8``."""

from ccdiff.launch.entry import command

__all__ = ["main"]

main = command(
    "sample",
    job="ccdiff.sample.job:run_sampling",
    schema="ccdiff.config.schema:SampleConfig",
    rewrite="ccdiff.launch.arguments:sampling_arguments",
    several=True,
    about="Draws images from a trained run.",
)

if __name__ == "__main__":
    main()
