"""What ``auto`` means on this machine: device, precision, compilation; how much memory is free."""

import importlib.util
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ccdiff.errors import UserError
from ccdiff.settings import Compile, Precision

__all__ = [
    "autocast_dtype",
    "compile_mode",
    "device_name",
    "explaining_failure",
    "free_bytes",
    "make_current",
    "own_gpu",
    "pick_device",
    "set_determinism",
]

log = logging.getLogger(__name__)

_DEVICES = "auto, cpu, cuda, cuda:<n> or mps"
_WAIT = 5.0
# From which on it pays to try several algorithms for each convolution.
_MANY_STEPS = 20_000


def pick_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is the first CUDA device, else the CPU.

    ``mps``, the GPU of a Mac, is taken by its name alone: nobody has tried it here.

    Raises:
        UserError: Where there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device must be {_DEVICES}, got {name!r}") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device must be {_DEVICES}, got {name!r}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            f"device={name}, but torch finds no GPU of a Mac (macOS 14 or later on Apple silicon "
            f"has one): use auto"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device={name}, but torch sees {torch.cuda.device_count()} CUDA devices: use auto"
        )
    return device


def make_current(device: torch.device) -> None:
    """Has what is not told its device, such as pinned memory and streams, be of this one."""
    # Without a number it is the current one already.
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


@contextmanager
def own_gpu(name: str) -> Iterator[str]:
    """A GPU that no other job of a sweep on this machine has, for as long as the context is open.

    Arguments:
        name: Of a device; all but ``auto`` stay as they are, and so does ``auto`` with fewer than
            two GPUs. Else it becomes ``cuda:<n>``, once one is free.
    """
    count = torch.cuda.device_count()
    if name != "auto" or count < 2:
        yield name
        return
    # Not at the top of the file, since Windows has no such module.
    import fcntl

    while True:
        for index in range(count):
            # A lock goes with its process, so a job that is killed frees its GPU.
            path = Path(tempfile.gettempdir()) / f"ccdiff-{os.getuid()}-cuda-{index}.lock"
            with path.open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield f"cuda:{index}"
                return
        log.info("all %d GPUs have a job each: waiting", count)
        time.sleep(_WAIT)


def device_name(device: torch.device) -> str:
    """What a person calls the device: ``cuda:0 (NVIDIA H100)``, ``cpu (8 threads)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return f"{device} (GPU of a Mac)"
    return f"{device} ({torch.get_num_threads()} threads)"


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "mps":
        return False  # Whether it is the quicker one there is not known: precision=bf16 takes it.
    # Without such instructions bfloat16 on a CPU is emulated, and slower than float32.
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The dtype of autocast, or None for plain float32."""
    if precision is Precision.auto:
        precision = Precision.bf16 if _multiplies_bf16(device) else Precision.fp32
    return torch.bfloat16 if precision is Precision.bf16 else None


def set_determinism(wanted: bool, *, steps: int) -> None:
    """Has operations that would not give the same bits each time replaced or refused, or not.

    Arguments:
        wanted: Whether to.
        steps: Of the training. A short one takes the algorithms that cuDNN thinks best, rather
            than try several for each shape of a convolution: on an H200 the first steps of small
            networks took 10 to 18 s with it, and later ones of the same shapes 1 to 2 s.
    """
    if wanted:
        # cuBLAS reads it when it is first used: https://docs.nvidia.com/cuda/cublas, 2.1.4.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # It imports torch's compiler, 4 s, whatever is asked for.
    if torch.are_deterministic_algorithms_enabled() != wanted:
        torch.use_deterministic_algorithms(wanted)
    # The fastest may change with chance.
    torch.backends.cudnn.benchmark = not wanted and steps >= _MANY_STEPS


def free_bytes(device: torch.device) -> float:
    """Bytes that could be taken now: of a GPU, or for the CPU of the machine."""
    if device.type == "cuda":
        # What torch holds without using it is free for tensors too.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        return int(meminfo.read_text().partition("MemAvailable:")[2].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


def compile_mode(wanted: Compile, device: torch.device) -> str | None:
    """The mode of ``torch.compile``, or None for eager.

    ``auto`` is eager on a CPU, where convolutions take most of the time and the compiler calls the
    same ones.
    """
    if wanted is Compile.auto:
        pays = device.type == "cuda" and importlib.util.find_spec("triton") is not None
        wanted = Compile.default if pays else Compile.none
    return None if wanted is Compile.none else wanted.value


@contextmanager
def explaining_failure(key: str) -> Iterator[None]:
    """Raises UserError where the compiler fails, most often for want of a C++ compiler.

    Arguments:
        key: Of the config, by which compilation was asked for.
    """
    try:
        yield
    except Exception as error:
        if not any(kind.__module__ == "torch._dynamo.exc" for kind in type(error).__mro__):
            raise
        raise UserError(
            f"torch.compile failed: {str(error).splitlines()[0]}. Pass {key}=none, or "
            f"install what it lacks"
        ) from error
