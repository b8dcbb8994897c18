"""What ``device=auto`` and ``precision=auto`` mean on this machine."""

import os

import torch

from ccdiff.errors import UserError
from ccdiff.training.settings import Precision

__all__ = ["autocast_dtype", "pick_device", "set_determinism"]


def pick_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is the first CUDA device, else the CPU.

    Raises:
        UserError: Where there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device must be auto, cpu, cuda or cuda:<n>, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device must be auto, cpu, cuda or cuda:<n>, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device={name}, but torch sees {torch.cuda.device_count()} CUDA devices: use auto"
        )
    return device


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without such instructions bfloat16 on a CPU is emulated, and slower than float32.
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The dtype of autocast, or None for plain float32."""
    if precision is Precision.auto:
        precision = Precision.bf16 if _multiplies_bf16(device) else Precision.fp32
    return torch.bfloat16 if precision is Precision.bf16 else None


def set_determinism(wanted: bool) -> None:
    """Has operations that would not give the same bits each time replaced or refused, or not."""
    if wanted:
        # cuBLAS reads it when it is first used: https://docs.nvidia.com/cuda/cublas, 2.1.4.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
