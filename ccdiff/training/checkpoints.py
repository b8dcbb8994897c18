"""Checkpoints: tensors and plain values only, written whole or not at all."""

import os
import pickle
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from ccdiff.errors import UserError

__all__ = ["FORMAT", "Checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = 1


class Checkpoint(TypedDict):
    """What a checkpoint file holds; it is enough to sample and to train on."""

    format: int
    step: int
    seconds: float
    config: str
    """The whole resolved config, as YAML."""
    denoiser: dict[str, Tensor]
    ema: dict[str, Tensor]
    """State of the averaging; the averaged weights are under ``ema_model.``."""
    optimizer: dict[str, Any]
    rng: dict[str, Any]
    tracker_id: str | None


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Writes to a temporary name, syncs, renames: a file of that name is always complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU without running any code from it.

    Raises:
        UserError: Where the file is not a checkpoint of this suite, or of a newer format.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is not a checkpoint, or is damaged ({reason}); pass a file "
            f"checkpoints/step_*.pt of a run directory"
        ) from error
    if not isinstance(loaded, dict) or "format" not in loaded:
        raise UserError(f"{path} is a torch file, but not a checkpoint of this suite")
    if loaded["format"] != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {loaded['format']}, this version reads {FORMAT}: "
            f"update ccdiff"
        )
    return loaded  # type: ignore[return-value]
