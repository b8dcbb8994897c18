"""Samples from a trained run: ``python sample.py run=latest labels=[3,7] num_per_label=8``."""

import sys

import hydra
from omegaconf import DictConfig

from ccdiff.config import schema
from ccdiff.errors import UserError
from ccdiff.launch.arguments import sampling_arguments
from ccdiff.launch.entry import end_before_parsing, rank_arguments, shared_command
from ccdiff.launch.labels import label_arguments

schema.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="sample")
@shared_command
def main(cfg: DictConfig) -> None:
    """Writes grid.png, denoising.gif, images/*.png and samples.npz to ``out``."""
    # torch takes seconds to import: --help and --cfg job must not wait for it.
    from ccdiff.sample.job import run_sampling

    run_sampling(schema.typed(cfg, schema.SampleConfig))


if __name__ == "__main__":
    try:
        sys.argv[1:] = rank_arguments(sampling_arguments(label_arguments(sys.argv[1:])))
    except UserError as error:
        end_before_parsing(error)
    main()
