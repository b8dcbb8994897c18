"""Compiled training against eager, in each mode, and compiled drawing; the slow ones last."""

import time

import torch

from tests.gpu.bench import Bench
from tests.gpu.correct.kit import FP32, apart, steps_of, training_of, without_tf32

__all__ = ["run"]

_NEEDS = {"default": 25.0, "reduce_overhead": 25.0, "max_autotune": 180.0}


def run(bench: Bench) -> None:
    """Runs the cases."""
    for mode, needs in _NEEDS.items():
        bench.case(
            lambda bench, mode=mode: against_eager(bench, mode),
            name=f"compiled, {mode}",
            needs=needs,
            cuda=True,  # On a CPU it takes minutes of a C++ compiler.
        )


@without_tf32()
def against_eager(bench: Bench, mode: str) -> None:
    """Losses of 10 steps and the weights after them; how long the first step took."""
    small = ("model.channels=[64]", "model.attention=[false]", "model.num_blocks=1")
    found, first = [], 0.0
    for compiled in ("none", mode):
        training = training_of(
            bench,
            bench.scratch / f"compiled_{mode}_{compiled}",
            *small,
            "model.bottleneck_attention=true",
            f"trainer.compile={compiled}",
        )
        started = time.monotonic()
        losses = steps_of(training, 1)
        torch.cuda.synchronize()
        first = time.monotonic() - started
        losses += steps_of(training, 9)
        weights = [p for p in training.state.denoiser.parameters() if p.requires_grad]
        found.append((torch.stack(losses), weights))
    for what, one, other in zip(("losses", "weights"), found[1], found[0], strict=True):
        bench.check(f"{mode}: {what} of 10 steps against eager", apart(one, other), FP32)
    bench.row(f"{mode}: the first step", seconds=first)
