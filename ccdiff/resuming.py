"""Going on with a run: what must be as it was, and what may change."""

import logging
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from ccdiff.compose import plain, trained_config
from ccdiff.errors import UserError
from ccdiff.schema import TrainConfig, typed
from ccdiff.training.checkpoints import Checkpoint

__all__ = ["MAY_CHANGE", "check_config", "check_data"]

log = logging.getLogger(__name__)

MAY_CHANGE = (
    # How long and how fast.
    "trainer.steps",
    "trainer.max_time",
    "optimizer.lr",
    "trainer.on_nonfinite",
    # Who is told, and when.
    "tracker",
    "trainer.log_every",
    "trainer.heldout_every",
    "trainer.heldout_images",
    "trainer.sample_every",
    "trainer.samples_per_label",
    "trainer.checkpoint_every",
    "trainer.keep",
    "trainer.keep_gib",
    # How pictures are drawn on the way.
    "sampler",
    "guidance",
    "threshold",
    # The machine. Figures differ by rounding, and on another kind of device by what is drawn.
    "trainer.device",
    "trainer.precision",
    "trainer.deterministic",
    "trainer.accumulate",
    "data.root",
    "data.cache",
    "data.placement",
    "data.download",
    "data.verify",
    "resume",
)
"""Keys, or groups of them, whose change leaves a run the same experiment."""


def check_config(checkpoint: Checkpoint, cfg: DictConfig) -> None:
    """Compares the config of a run with the one that is to go on with it.

    Arguments:
        checkpoint: Of the run.
        cfg: With the facts of its data settled.

    Raises:
        UserError: Where another key than ``MAY_CHANGE`` differs, with all that do.
    """
    # Keys of the trainer that came after the run count as their defaults.
    saved = typed(trained_config(checkpoint), TrainConfig)
    before, now = dict(_flat(plain(saved))), dict(_flat(plain(cfg)))
    changes = {
        key: f"{key}: {before.get(key, 'absent')} -> {now.get(key, 'absent')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    }
    refused = [change for key, change in changes.items() if not _may_change(key)]
    if refused:
        lines = "\n  ".join(refused)
        raise UserError(
            f"the run to resume was trained with another config:\n  {lines}\n"
            f"Leave these as they were, or start a new run. What may change: "
            f"{', '.join(MAY_CHANGE)}"
        )
    for key, change in changes.items():
        if key != "resume":
            log.info("changed since the run was started: %s", change)


def _may_change(key: str) -> bool:
    return any(key == allowed or key.startswith(f"{allowed}.") for allowed in MAY_CHANGE)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs such as ``("trainer.steps", 1200)``."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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
