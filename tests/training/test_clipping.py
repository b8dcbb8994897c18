"""Gradients longer than ``trainer.grad_clip`` are scaled to it, and shorter ones left alone."""

import pytest
import torch

from tests.benchmarks.ours import NOISE, assembled, bare_step

TINY = (
    "model.channels=[8,8]",
    "model.bottleneck=8",
    "model.head_channels=8",
    "trainer.batch_size=4",
    "trainer.warmup=0",
    "trainer.device=cpu",
    "trainer.precision=fp32",
    "optimizer=adam",
    "optimizer._target_=torch.optim.SGD",
    "~optimizer.betas",
    "optimizer.lr=1e-2",
)


def step_length(grad_clip: float, *, fused: bool) -> float:
    """Of the first step, in units of the learning rate: the length of the gradient it used."""
    training = assembled(
        *NOISE, *TINY, f"trainer.grad_clip={grad_clip}", f"optimizer.fused={fused}"
    )
    parameters = list(training.state.denoiser.parameters())
    start = [p.detach().double() for p in parameters]
    bare_step(training)()
    moved = [p.detach().double() - s for p, s in zip(parameters, start, strict=True)]
    return torch.cat([m.flatten() for m in moved]).norm().item() / 1e-2


@pytest.mark.parametrize("fused", [False, True])
def test_a_long_gradient_is_scaled_to_the_limit_and_a_short_one_left_alone(fused):
    free = step_length(1e9, fused=fused)
    assert free > 0.01
    assert step_length(free / 3, fused=fused) == pytest.approx(free / 3, rel=1e-3)
    assert step_length(1.01 * free, fused=fused) == free
