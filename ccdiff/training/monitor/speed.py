"""How much of what the device could compute, training makes it compute.

Model FLOP utilisation: Chowdhery et al., PaLM: Scaling Language Modeling with Pathways, 2022
(arXiv:2204.02311), appendix B. The operations are those that the model needs, so activations that
are computed twice to save memory count once. The peak is measured, where the paper takes the
maker's figure.
"""

import functools
import time
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Speed", "matmul_peak"]

_SECONDS = 0.3
_SIZES = (256, 512, 1024, 2048, 4096, 8192)
_REPEATS = 5


@dataclass(frozen=True)
class Speed:
    """What it takes to tell a training's speed from its images per second.

    Arguments:
        flops_per_image: Floating-point operations of convolutions and matrix products, forward
            and backward.
        peak_flops_per_second: What the devices of all processes reach on matrix products in the
            same precision.
    """

    flops_per_image: int
    peak_flops_per_second: float

    def figures(self, images_per_second: float) -> dict[str, float]:
        """``train/flops_per_second``, and ``train/mfu``, its share of the peak in [0, 1].

        The share is left out where it is above 1: the peak was measured while something else took
        the device.
        """
        achieved = self.flops_per_image * images_per_second
        share = achieved / self.peak_flops_per_second
        return {"train/flops_per_second": achieved} | ({"train/mfu": share} if share <= 1 else {})


@functools.cache
def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the fastest product of square matrices.

    Measured once in a process, in about 0.3 s: sizes double for as long as there is time. What
    counts of each size, also against that time, is its quickest product: the first is slow, and
    any may wait for something else.

    Arguments:
        device: Where.
        dtype: Of the matrices. On a GPU, float32 is what convolutions make of it, TF32 by default.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    try:
        return _fastest_product(device, dtype)
    finally:
        matmul.fp32_precision = before


def _fastest_product(device: torch.device, dtype: torch.dtype) -> float:
    # Of its own, so that training draws what it would without.
    generator = torch.Generator(device).manual_seed(0)
    spent = fastest = 0.0
    for n in _SIZES:
        a, b = torch.rand(2, n, n, device=device, generator=generator).to(dtype)
        _seconds(a, b)  # Libraries choose and load their kernels.
        seconds = min(_seconds(a, b) for _ in range(_REPEATS))
        fastest = max(fastest, 2 * n**3 / seconds)
        spent += _REPEATS * seconds
        if spent + 8 * _REPEATS * seconds > _SECONDS:
            break
    return fastest


def _seconds(a: Tensor, b: Tensor) -> float:
    """Of one product, from start to end."""
    if a.is_cuda:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # The product runs on the stream of its device, which need not be the current one.
        stream = torch.cuda.current_stream(a.device)
        start.record(stream)
        torch.mm(a, b)
        end.record(stream)
        end.synchronize()
        return start.elapsed_time(end) / 1000
    waits = a.device.type == "mps"  # Its work is done later; a CPU's, before the call returns.
    if waits:
        torch.mps.synchronize()
    began = time.perf_counter()
    torch.mm(a, b)
    if waits:
        torch.mps.synchronize()
    return time.perf_counter() - began
