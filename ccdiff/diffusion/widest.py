"""Numbers in the widest type that a device has."""

import torch
from torch import Tensor

__all__ = ["WITHOUT_FLOAT64", "widest", "widest_dtype"]

WITHOUT_FLOAT64 = ("mps",)
"""Types of devices that know no float64."""


def widest_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has none."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def widest(x: Tensor) -> Tensor:
    """The same numbers in that type, any shape."""
    return x.to(widest_dtype(x.device))
