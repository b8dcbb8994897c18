"""How many images at a time memory holds: estimated ahead, and corrected where it runs out."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from ccdiff.errors import UserError
from ccdiff.system.device import free_bytes

__all__ = ["Portions", "largest_batch_size"]

log = logging.getLogger(__name__)

T = TypeVar("T")

# Beyond these, more images at a time are hardly faster, and hold up progress.
_MOST = {"cpu": 256, "cuda": 1024, "mps": 256}
# Of what is free: libraries take working memory, and others live on the machine too.
_SHARE = 0.5


def largest_batch_size(
    draw: Callable[[int], object], device: torch.device, *, processes: int = 1
) -> int:
    """How many images to draw at a time: a power of two, at most 1024 on a GPU, 256 on a CPU.

    Arguments:
        draw: Draws so many images on ``device``; called with one, on a GPU also with three.
        device: Where.
        processes: How many share its memory.
    """
    each = _bytes_on_gpu(draw, device) if device.type == "cuda" else _bytes_on_cpu(draw)
    fits = max(1, int(_SHARE * free_bytes(device) / processes / max(1.0, each)))
    return min(_MOST[device.type], 1 << (fits.bit_length() - 1))


def _bytes_on_gpu(draw: Callable[[int], object], device: torch.device) -> float:
    """How much one more image adds to the peak, in which weights and workspaces are too."""
    peaks = []
    for n in (1, 3):
        torch.cuda.reset_peak_memory_stats(device)
        draw(n)
        peaks.append(torch.cuda.max_memory_allocated(device))
    return (peaks[1] - peaks[0]) / 2


def _bytes_on_cpu(draw: Callable[[int], object]) -> float:
    """All that layers give out for one image: a bound, as a CPU's allocator keeps no count."""
    sizes: list[int] = []

    def note(layer: nn.Module, given: Any, out: Any) -> None:
        if isinstance(out, Tensor) and not any(layer.children()):
            sizes.append(out.nbytes)

    with register_module_forward_hook(note):
        draw(1)
    return sum(sizes)


class Portions:
    """Does work on many items, in portions halved for good each time memory runs out."""

    def __init__(self) -> None:
        self.most: int | None = None

    def __call__(self, n: int, work: Callable[[slice], T]) -> list[T]:
        """Calls ``work`` on consecutive parts of ``range(n)``: on all at once, where that fits.

        Raises:
            UserError: Where there is no memory for a single item.
        """
        done: list[T] = []
        start = 0
        while start < n:
            stop = min(n, start + (self.most or n))
            try:
                done.append(work(slice(start, stop)))
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                told = str(error).splitlines()[0]
            else:
                start = stop
                continue
            # Out here, since the error holds on to the tensors of the attempt.
            self._halve(stop - start, told)
        return done

    def _halve(self, size: int, told: str) -> None:
        if size == 1:
            raise UserError(
                f"there is no memory for a single image ({told}): free some, or pass another "
                f"device"
            )
        self.most = size // 2
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        log.warning(
            "out of memory with %d images at a time, going on with %d; an image stays the same "
            "but for rounding (%s)",
            size,
            self.most,
            told,
        )


def _out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator has no exception of its own.
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
