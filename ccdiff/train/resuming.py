"""Going on with a run: what must be as it was, and what may change."""

import logging

from omegaconf import DictConfig

from ccdiff.config.build import plain
from ccdiff.config.differences import WITHOUT_EFFECT, any_of, difference
from ccdiff.config.schema import TrainConfig, typed
from ccdiff.errors import UserError
from ccdiff.runs.checkpoints import Checkpoint
from ccdiff.trained.run import trained_config

__all__ = ["MAY_CHANGE", "check_config", "check_data"]

log = logging.getLogger(__name__)

MAY_CHANGE = (
    *WITHOUT_EFFECT,
    # How fast.
    "optimizer.lr",
    "trainer.on_nonfinite",
    # What is measured and drawn on the way.
    "trainer.heldout_every",
    "trainer.heldout_images",
    "trainer.sample_every",
    "trainer.samples_per_label",
    "sampler",
    "guidance",
    "threshold",
    "evaluate",
    "extractor",
    # How it is computed. Figures differ by rounding.
    "trainer.precision",
    "trainer.compile",
    "trainer.deterministic",
    "trainer.accumulate",
    "trainer.shard",
)
"""Keys, or groups of them, that may have another value where a user goes on with a run."""


def check_config(checkpoint: Checkpoint, cfg: DictConfig) -> None:
    """Compares the config of a run with the one that is to go on with it.

    Arguments:
        checkpoint: Of the run.
        cfg: With the facts of its data settled.

    Raises:
        UserError: Where another key than ``MAY_CHANGE`` differs, with all that do.
    """
    # Keys of the trainer that came after the run count as their defaults.
    saved = plain(typed(trained_config(checkpoint), TrainConfig))
    changes = difference(saved, plain(cfg), ignore=("resume",))
    told = {key: f"{key}: {old} -> {new}" for key, (old, new) in changes.items()}
    if refused := [line for key, line in told.items() if not any_of(key, MAY_CHANGE)]:
        lines = "\n  ".join(refused)
        raise UserError(
            f"the run to resume was trained with another config:\n  {lines}\n"
            f"Leave these as they were, or start a new run. What may change: "
            f"{', '.join(MAY_CHANGE)}"
        )
    for line in told.values():
        log.info("changed since the run was started: %s", line)


def check_data(checkpoint: Checkpoint, fingerprint: str) -> None:
    """Compares the training data of a run with what is there now.

    Raises:
        UserError: Where they differ.
    """
    if checkpoint["data"] not in (None, fingerprint):
        raise UserError(
            "the training data are not those that the run was trained on: images, labels or "
            "their order have changed. Bring the old ones back (data.root may point elsewhere), "
            "or start a new run"
        )
