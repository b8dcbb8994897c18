"""The typed settings of the training loop; imports no torch, so that ``--help`` is quick."""

from dataclasses import dataclass
from enum import Enum

from ccdiff.errors import UserError

__all__ = ["Precision", "TrainerSettings"]


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


@dataclass
class TrainerSettings:
    """How long, how much at a time, how often to look."""

    steps: int = 1200
    """Optimizer steps in all."""
    batch_size: int = 128
    """Images per optimizer step."""
    accumulate: int = 1
    """Parts that each batch is split into, to fit in memory."""
    precision: Precision = Precision.auto
    device: str = "auto"
    """auto, cpu, cuda or cuda:<n>."""
    warmup: int = 100
    """Steps over which the learning rate rises linearly from zero."""
    grad_clip: float = 1.0
    """Largest norm of the gradient; longer ones are scaled down to it."""
    log_every: int = 50
    heldout_every: int = 400
    heldout_images: int = 512
    """Held-out images on which the loss is measured."""
    sample_every: int = 400
    samples_per_label: int = 8
    """Columns of the grids drawn during training."""
    checkpoint_every: int = 400
    keep: int = 2
    """How many of the latest checkpoints to keep."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if (value := getattr(self, name)) < 1:
                raise UserError(f"trainer.{name} must be at least 1, got {value}")
        if self.warmup < 0:
            raise UserError(f"trainer.warmup must not be negative, got {self.warmup}")
        if self.grad_clip <= 0:
            raise UserError(f"trainer.grad_clip must be positive, got {self.grad_clip}")
        if self.batch_size % self.accumulate:
            raise UserError(
                f"trainer.batch_size={self.batch_size} does not divide into "
                f"trainer.accumulate={self.accumulate} equal parts"
            )
