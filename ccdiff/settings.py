"""The typed settings of the training loop; imports no torch, so that ``--help`` is quick."""

import re
from dataclasses import dataclass
from enum import Enum

from ccdiff.errors import UserError

__all__ = [
    "PROFILE_AFTER",
    "Compile",
    "EvaluateSettings",
    "OnNonFinite",
    "Precision",
    "Shard",
    "TrainerSettings",
]

PROFILE_AFTER = 10
"""Steps of a launch before those that are profiled: the first ones are slow."""

_COUNTS = (
    "steps",
    "batch_size",
    "accumulate",
    "log_every",
    "heldout_every",
    "heldout_images",
    "sample_every",
    "samples_per_label",
    "checkpoint_every",
    "keep",
)


class Precision(Enum):
    """``auto`` is bf16 where the hardware multiplies it natively, else fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Compile(Enum):
    """Modes of ``torch.compile``; ``auto`` is ``default`` on a GPU and ``none`` on a CPU.

    ``reduce_overhead`` replays CUDA graphs, and ``max_autotune`` also tries several kernels for
    each operation.
    """

    auto = "auto"
    none = "none"
    default = "default"
    reduce_overhead = "reduce-overhead"
    max_autotune = "max-autotune"


_REPLAYED = (Compile.reduce_overhead, Compile.max_autotune)
"""Modes with CUDA graphs, whose outputs are valid only until the next replay."""


class OnNonFinite(Enum):
    """What to do where a loss or gradient is infinite or no number.

    ``stop`` ends the run; ``rollback`` takes the newest checkpoint and goes on with other noise.
    """

    stop = "stop"
    rollback = "rollback"


class Shard(Enum):
    """What several processes divide among them, to save memory.

    ``none`` keeps all in each; ``zero1`` divides the state of the optimizer.
    """

    none = "none"
    zero1 = "zero1"


def _seconds(time: str) -> float | None:
    """Reads ``90`` or ``90.5`` (seconds), ``11:30`` (hours, minutes) or ``11:30:15``."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", time):
        return float(time)
    if parts := re.fullmatch(r"([0-9]{1,6}):([0-5][0-9])(?::([0-5][0-9]))?", time):
        hours, minutes, seconds = (int(part or 0) for part in parts.groups())
        return 3600.0 * hours + 60 * minutes + seconds
    return None


@dataclass
class TrainerSettings:
    """How long, how much at a time, how often to look."""

    steps: int = 480
    """Optimizer steps in all."""
    batch_size: int = 128
    """Images per optimizer step, over all processes."""
    accumulate: int = 1
    """Parts that each batch, or a process's share of it, is split into, to fit in memory."""
    precision: Precision = Precision.auto
    compile: Compile = Compile.auto
    device: str = "auto"
    """auto, cpu, cuda, cuda:<n> or mps."""
    deterministic: bool = False
    """Whether a GPU shall give the same bits each time, at some cost of speed; a CPU does."""
    warmup: int = 40
    """Steps over which the learning rate rises linearly from zero."""
    cooldown: int = 440
    """Last steps, over which it falls linearly to zero, at most all of them: less noise in the
    weights at the end."""
    grad_clip: float = 1.0
    """Largest norm of the gradient; longer ones are scaled down to it."""
    log_every: int = 50
    """Steps between lines on loss and speed."""
    heldout_every: int = 240
    """Steps between looks at the error on held-out images."""
    heldout_images: int = 512
    """Held-out images on which the loss is measured."""
    sample_every: int = 240
    """Steps between grids of samples."""
    samples_per_label: int = 8
    """Columns of the grids drawn during training; of the film, 16 at most."""
    checkpoint_every: int = 240
    """Steps between checkpoints."""
    keep: int = 2
    """How many of the latest checkpoints to keep."""
    keep_gib: float | None = None
    """Keeps fewer where they take more than so many GiB together; the newest always stays."""
    max_time: str | None = None
    """Saves and stops this long after the start: hours:minutes, such as 11:30, or seconds."""
    stop_at: str | None = None
    """Ends the run where a figure is so good, such as ``label_agreement_classifier>=0.95``."""
    on_nonfinite: OnNonFinite = OnNonFinite.stop
    profile: int = 0
    """Steps of this launch to profile; 0 for none."""
    shard: Shard = Shard.none
    """What several processes divide among them: none, or zero1, the state of the optimizer."""
    dist_timeout: float = 1800.0
    """Seconds that processes wait for each other; rank 0 draws and measures meanwhile."""

    @property
    def max_seconds(self) -> float | None:
        """``max_time`` in seconds."""
        return None if self.max_time is None else _seconds(self.max_time)

    @property
    def keep_bytes(self) -> float:
        """``keep_gib`` in bytes, infinite where there is no bound."""
        return float("inf") if self.keep_gib is None else self.keep_gib * 2**30

    def __post_init__(self) -> None:
        if self.max_time is not None and not self.max_seconds:
            raise UserError(
                f"trainer.max_time must be hours:minutes, such as 11:30, or a number of seconds, "
                f"and not 0, got {self.max_time!r}"
            )
        if not self.keep_bytes > 0:
            raise UserError(f"trainer.keep_gib must be positive, got {self.keep_gib}")
        for name in _COUNTS:
            if (value := getattr(self, name)) < 1:
                raise UserError(f"trainer.{name} must be at least 1, got {value}")
        for name in ("warmup", "cooldown"):
            if (value := getattr(self, name)) < 0:
                raise UserError(f"trainer.{name} must not be negative, got {value}")
        if not 0 < self.dist_timeout < 1e7:
            raise UserError(
                f"trainer.dist_timeout must be a number of seconds, got {self.dist_timeout}"
            )
        if not self.grad_clip > 0:
            raise UserError(f"trainer.grad_clip must be positive, got {self.grad_clip}")
        if self.profile < 0:
            raise UserError(f"trainer.profile must not be negative, got {self.profile}")
        if self.profile and self.steps < PROFILE_AFTER + self.profile:
            raise UserError(
                f"trainer.profile={self.profile} starts after {PROFILE_AFTER} steps and so takes "
                f"trainer.steps of at least {PROFILE_AFTER + self.profile}, got {self.steps}"
            )
        if self.batch_size % self.accumulate:
            raise UserError(
                f"trainer.batch_size={self.batch_size} does not divide into "
                f"trainer.accumulate={self.accumulate} equal parts"
            )
        if self.accumulate > 1 and self.compile in _REPLAYED:
            raise UserError(
                f"trainer.compile={self.compile.name} replays CUDA graphs, in which each of "
                f"trainer.accumulate={self.accumulate} parts would overwrite the gradients of the "
                f"one before: use trainer.compile=default or trainer.accumulate=1"
            )


@dataclass
class EvaluateSettings:
    """How samples are looked at during training."""

    every: int = 240
    """Steps between looks; 0 for none. The first may train a classifier, once per data set."""
    images: int = 200
    """Samples that are drawn for a look."""
    steps: int = 20
    """Of the sampler that draws them."""
    cache: str = ".ccdiff_cache"
    """Where the classifier and the features of real images are kept."""

    def __post_init__(self) -> None:
        for name, least in (("every", 0), ("images", 20), ("steps", 1)):
            if (value := getattr(self, name)) < least:
                raise UserError(f"evaluate.{name} must be at least {least}, got {value}")
