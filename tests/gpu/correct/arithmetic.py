"""A GPU computes what the CPU does: forward, backward, steps, samples; in float32 and bfloat16."""

import torch

from ccdiff.config.build import instantiate
from ccdiff.diffusion.samplers import SampleNoise, sample
from tests.gpu.bench import Bench
from tests.gpu.correct.kit import (
    BF16,
    FP32,
    apart,
    batch_of,
    draw_images,
    moved,
    pair,
    steps_of,
    training_of,
    without_tf32,
)

__all__ = ["run"]

_AFTER_STEPS = {"adamw": 1e-3, "muon": FP32}
"""Adam divides each gradient by its own size: what is zero but for rounding moves as far as the
rest, and rounding differs between devices. An H200 is 2.8e-4 from a CPU after 20 steps."""


def run(bench: Bench) -> None:
    """Runs the cases."""
    bench.case(forward_and_backward, needs=5)
    bench.case(in_bfloat16, needs=5)
    for optimizer in ("muon",) if bench.miniature else ("adamw", "muon"):
        bench.case(
            lambda bench, optimizer=optimizer: training_steps(bench, optimizer),
            name=f"20 steps, {optimizer}",
            needs=8,
        )
    bench.case(seeds_across_batch_sizes, needs=3)


@without_tf32()
def forward_and_backward(bench: Bench) -> None:
    """The loss, the output and the gradient of a batch."""
    both = pair(bench)
    x0, y, draw = batch_of(both, 16)
    found = []
    for denoiser, device in ((both.there, bench.device), (both.here, torch.device("cpu"))):
        denoiser.train()
        on = moved(draw, device)
        level = denoiser.schedule.at(on.t)
        with torch.no_grad():
            output = denoiser.output(x0.to(device), level, y.to(device), on.drop)
        loss = both.objective.at(denoiser, x0.to(device), y.to(device), on)
        loss.mean().backward()
        gradients = [p.grad for p in denoiser.parameters() if p.grad is not None]
        found.append((output, loss, gradients))
    for what, one, other in zip(("output", "loss", "gradient"), *found, strict=True):
        bench.check(f"float32 {what} against the CPU", apart(one, other), FP32)


def in_bfloat16(bench: Bench) -> None:
    """The output and the gradient in bfloat16, against float32 of the CPU."""
    both = pair(bench)
    x0, y, draw = batch_of(both, 16)
    both.there.autocast_dtype = torch.bfloat16
    found = []
    for denoiser, device in ((both.there, bench.device), (both.here, torch.device("cpu"))):
        denoiser.train()
        on = moved(draw, device)
        output = denoiser.output(x0.to(device), denoiser.schedule.at(on.t), y.to(device), on.drop)
        both.objective.at(denoiser, x0.to(device), y.to(device), on).mean().backward()
        found.append((output, [p.grad for p in denoiser.parameters() if p.grad is not None]))
    for what, one, other in zip(("output", "gradient"), *found, strict=True):
        bench.check(f"bfloat16 {what} against float32 of the CPU", apart(one, other), BF16)


@without_tf32()
def training_steps(bench: Bench, optimizer: str) -> None:
    """Losses of 20 steps and what the trained and the averaged network return after them."""
    steps = 4 if bench.miniature else 20
    found = []
    for device in (str(bench.device), "cpu"):
        folder = bench.scratch / f"steps_{optimizer}_{device}"
        training = training_of(bench, folder, f"optimizer={optimizer}", device=device)
        losses = torch.stack(steps_of(training, steps))
        x = torch.rand(8, *training.data.image_shape, generator=torch.Generator().manual_seed(3))
        outputs = []
        for denoiser in (training.state.denoiser, training.state.averaged):
            denoiser.eval()
            level = denoiser.schedule.at(torch.linspace(0.05, 0.95, 8, device=device))
            with torch.no_grad():
                outputs.append(denoiser(x.to(device), level, torch.arange(8, device=device)))
        found.append((losses, *outputs))
    names = (f"losses of {steps} steps", "output after them", "output of the average")
    bounds = (FP32, _AFTER_STEPS[optimizer], _AFTER_STEPS[optimizer])
    for what, bound, one, other in zip(names, bounds, *found, strict=True):
        bench.check(f"{optimizer}: {what} against the CPU", apart(one, other), bound)


@without_tf32()
def seeds_across_batch_sizes(bench: Bench) -> None:
    """An image depends on its seed and not on what is drawn with it, but for rounding."""
    both = pair(bench)
    sampler = instantiate(both.cfg.sampler)
    sampler = type(sampler)(steps=3 if bench.miniature else 10, grid=sampler.grid)

    def drawn(seeds: range) -> torch.Tensor:
        y = torch.tensor([seed % 10 for seed in seeds], device=bench.device)
        denoise = instantiate(both.cfg.threshold)(
            instantiate(both.cfg.guidance)(both.there, y, None)
        )
        noise = SampleNoise(seeds, device=bench.device)
        shape = (len(seeds), *both.shape)
        return sample(sampler, denoise, both.there.schedule, shape, noise)

    for dtype, bound in ((None, FP32), (torch.bfloat16, BF16)):
        both.there.autocast_dtype = dtype
        whole = drawn(range(8))
        for size in (1, 3):
            parts = [drawn(range(i, min(8, i + size))) for i in range(0, 8, size)]
            name = "float32" if dtype is None else "bfloat16"
            far = apart(torch.cat(parts), whole)
            bench.check(f"{name} images drawn {size} at a time against 8", far, bound)
    both.there.autocast_dtype = None
    images = draw_images(both, both.there, sampler=sampler, n=8)
    bench.expect("images are finite", bool(torch.isfinite(images).all()))
