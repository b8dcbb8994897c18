"""Ratios from one run: cases take turns, so that whatever else the machine does hits all alike."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

Run = Callable[[], object]

_COUNTED = ("convolution", "mm", "attention")
"""In the names of the operations that :func:`measure_flops` counts."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Something to time.

    Arguments:
        run: Does the work once.
        images: How many images that is.
        network: Whose parameters are counted, or None.
        flops: Floating-point operations per image, or None.
    """

    run: Run
    images: int
    network: nn.Module | None = None
    flops: float | None = None


def measure_flops(run: Run, *, images: int) -> float:
    """Operations per image of convolutions and matrix products, forwards and backwards."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / images


def training_flops(
    loss: Callable[[Tensor], Tensor], network: nn.Module, shape: Sequence[int]
) -> float:
    """Operations per image of a training step, for a loss of images [B, C, H, W].

    Arguments:
        loss: A scalar; it is given random images.
        network: Whose gradients are let go.
        shape: [C, H, W].
    """
    images = torch.rand(2, *shape, device=next(network.parameters()).device)
    flops = measure_flops(lambda: loss(images).backward(), images=len(images))
    network.zero_grad(set_to_none=True)
    return flops


def interleave(
    cases: Mapping[str, Case], *, rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of each case in each round; the order turns round from one to the next."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for i in range(warmup + rounds):
        for name in list(cases)[:: 1 if i % 2 else -1]:
            started = time.perf_counter()
            cases[name].run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i >= warmup:
                taken[name].append(time.perf_counter() - started)
    return taken


def table(cases: Mapping[str, Case], taken: Mapping[str, Sequence[float]]) -> str:
    """Markdown: one row per case, ratios against the first one, round by round."""
    first = next(iter(cases))
    base = [seconds / cases[first].images for seconds in taken[first]]
    lines = [
        "| case | parameters | GFLOPs per image | images/s | GFLOP/s | speed against the first |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in cases.items():
        each = [seconds / case.images for seconds in taken[name]]
        ratios = sorted(b / e for b, e in zip(base, each, strict=True))
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        size = "" if case.network is None else f"{count(case.network) / 1e6:.2f} M"
        flops = "" if case.flops is None else f"{case.flops / 1e9:.3f}"
        rate = "" if case.flops is None else f"{case.flops / 1e9 / median(each):.0f}"
        lines.append(
            f"| {name} | {size} | {flops} | {1 / median(each):.1f} | {rate} | "
            f"{median(ratios):.2f} ({low:.2f} to {high:.2f}) |"
        )
    return "\n".join(lines)


def shares(cases: Mapping[str, Case], *, side: int = 2048) -> str:
    """Markdown: how much of a run convolutions and products of matrices take, and their speed.

    Where they are about as fast as a product of two large matrices, no more is to be won than the
    last column has: the speed if all else took no time.

    Arguments:
        cases: With their operations; each is run twice.
        side: Of the matrices, [side, side].
    """
    lines = [
        "| case | ms | convolutions and products | their GFLOP/s | all else "
        "| if that took no time |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in cases.items():
        case.run()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            case.run()
        taken = {row.key: row.self_cpu_time_total / 1e3 for row in profiler.key_averages()}
        total = sum(taken.values())
        counted = sum(ms for key, ms in taken.items() if any(part in key for part in _COUNTED))
        rate = "" if case.flops is None else f"{case.flops * case.images / counted / 1e6:.0f}"
        lines.append(
            f"| {name} | {total:.0f} | {counted / total:.0%} | {rate} | {1 - counted / total:.0%} "
            f"| {total / counted:.2f} times as fast |"
        )
    x = torch.randn(side, side)
    seconds = sorted(_seconds(lambda: x @ x) for _ in range(7))[3]
    rate = 2 * side**3 / seconds / 1e9
    lines.append(
        f"| two matrices of {side:,} x {side:,} | {1e3 * seconds:.0f} | | {rate:.0f} | | |"
    )
    return "\n".join(lines)


def _seconds(run: Run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def durations(
    taken: Mapping[str, Sequence[float]], *, each: str, unit: str = "ms", per: int = 1
) -> str:
    """Markdown: one row per case, the time of one of ``per`` things that each run did.

    Arguments:
        taken: Seconds of each case in each round.
        each: What the thing is called.
        unit: ``ms`` or ``s``.
        per: How many of them a run did.
    """
    scale = {"ms": 1e3, "s": 1.0}[unit] / per
    first = taken[next(iter(taken))]
    lines = [f"| case | {unit} per {each} | range | times the first |", "|---|---|---|---|"]
    for name, seconds in taken.items():
        low, middle, high = (scale * f(seconds) for f in (min, median, max))
        ratio = median(s / f for s, f in zip(seconds, first, strict=True))
        lines.append(f"| {name} | {middle:.4g} | {low:.4g} to {high:.4g} | {ratio:.2f} |")
    return "\n".join(lines)


def count(network: nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for p in network.parameters())


def machine() -> str:
    """What the figures were taken on."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = names[0].partition(":")[2].strip() if names else name
    # As limited by ATEN_CPU_CAPABILITY; oneDNN has a limit of its own, ONEDNN_MAX_CPU_ISA.
    name = f"{name} ({torch.backends.cpu.get_cpu_capability()})"
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"
