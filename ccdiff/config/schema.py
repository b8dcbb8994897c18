"""The typed part of the configs, so that a wrong type or a misspelt key is refused by name.

Groups are ``_target_`` YAML and typed by the constructors they call.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ccdiff.config.names import ADDED
from ccdiff.errors import UserError
from ccdiff.settings import Compile, EvaluateSettings, Precision, TrainerSettings

__all__ = ["MovedData", "SampleConfig", "TrainConfig", "check_keys", "register", "typed"]


_SEEDS = 2**63
"""What torch takes for one."""


@dataclass
class TrainConfig:
    """What ``train.py`` takes; one entry per group, then the plain keys."""

    data: Any = MISSING
    model: Any = MISSING
    conditioning: Any = MISSING
    schedule: Any = MISSING
    prediction: Any = MISSING
    weighting: Any = MISSING
    times: Any = MISSING
    optimizer: Any = MISSING
    ema: Any = MISSING
    trainer: TrainerSettings = MISSING
    sampler: Any = MISSING
    threshold: Any = MISSING
    guidance: Any = MISSING
    tracker: Any = MISSING
    objective: Any = field(default_factory=lambda: dict(ADDED["objective"]))
    auxiliary: Any = field(default_factory=lambda: dict(ADDED["auxiliary"]))
    augment: Any = field(default_factory=lambda: dict(ADDED["augment"]))
    coupling: Any = field(default_factory=lambda: dict(ADDED["coupling"]))
    # Runs from before there were these two go on without.
    evaluate: EvaluateSettings = field(default_factory=lambda: EvaluateSettings(every=0))
    extractor: Any = None
    experiment: Any = None
    sweep: Any = None
    seed: int = 0
    init_from: str | None = None
    """A run directory, a checkpoint file, or ``latest``, whose averaged weights to begin with."""
    resume: str | None = None
    """A run directory or checkpoint to go on from, in the same directory, with its config.

    ``auto`` goes on with what hydra.run.dir holds, and starts where that is nothing, so that one
    command does both.
    """


@dataclass
class SampleConfig:
    """What ``sample.py`` takes."""

    sampler: Any = MISSING
    threshold: Any = MISSING
    guidance: Any = MISSING
    schedule: Any = None
    """None is the schedule of training."""
    run: str | None = None
    """A run directory, a checkpoint file, or ``latest``."""
    labels: Any = None
    """Names or indices; none is one row per class."""
    num_per_label: int = 8
    """Images per label."""
    seed: int = 0
    """Of noise."""
    out: str | None = None
    """Folder to write to; none is a new one in the run."""
    weights: str = "ema"
    """``ema``, ``raw``, or of a run with ``ema=posthoc`` the width of an average, such as 0.12."""
    batch_size: int | str = "auto"
    """Images at a time; ``auto`` is as many as memory holds."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:<n> or mps."""
    precision: Precision = Precision.auto
    compile: Compile = Compile.none
    """Modes of ``torch.compile``; worth its minute for thousands of images."""


@dataclass
class MovedData:
    """What of a run's data set a later command may be told anew."""

    root: str | None = None
    """Where it is now, if it has moved."""


def typed(cfg: DictConfig, schema: type) -> DictConfig:
    """The config with the types of ``schema``, whatever it was composed from.

    Raises:
        UserError: For a key that nothing would read, such as one added by ``+key=...``, and for
            a value of the wrong type.
    """
    check_keys(cfg, schema)
    try:
        merged = cast(DictConfig, OmegaConf.merge(OmegaConf.structured(schema), cfg))
    except OmegaConfBaseException as error:
        reason = str(error).strip().splitlines()[0]
        key = getattr(error, "full_key", None)
        if "is not a ListConfig" in reason:
            reason = f"it takes a list, such as {key}=[1,2]"
        raise UserError(f"{key}: {reason}" if key else reason) from error
    seed = merged.get("seed")
    if isinstance(seed, int) and not -_SEEDS <= seed < _SEEDS:
        raise UserError(f"seed must be between -2^63 and 2^63 - 1, got {seed}")
    return merged


def check_keys(cfg: DictConfig, schema: type, *, within: str = "", source: object = None) -> None:
    """Raises a UserError for a key that ``schema`` does not have, and nothing would read.

    Merging does not: what ``+`` has put into a typed node is taken as it is.

    Arguments:
        cfg: The config, or what is at ``within``.
        schema: A dataclass; those inside are looked into.
        within: Where ``cfg`` is: nothing, or a key and a dot.
        source: The file it is from; None for the command line.
    """
    known = {field.name: field.type for field in fields(schema)}
    for name, value in cfg.items_ex(resolve=False):
        key = str(name)
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {within}{near[0]}?" if near else ""
            where = f"{source}: " if source else ""
            raise UserError(
                f"{where}nothing reads the key '{within}{key}'{hint} "
                f"(there are: {', '.join(known)})"
            )
        inner = known[key]
        if isinstance(inner, type) and is_dataclass(inner) and isinstance(value, DictConfig):
            check_keys(value, inner, within=f"{within}{key}.", source=source)


def register() -> None:
    """Makes the schemas known to Hydra; call before ``hydra.main`` composes."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="sample_schema", node=SampleConfig)
    store.store(group="trainer", name="schema", node=TrainerSettings)
    store.store(group="evaluate", name="schema", node=EvaluateSettings)
