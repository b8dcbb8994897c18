"""What only the machine decides: waits, memory, where images are held, numbers that are none."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from ccdiff.config.build import instantiate
from ccdiff.data import Batches
from ccdiff.generation.pipeline import Pipeline
from ccdiff.training.nonfinite import Diverged
from ccdiff.training.step import Update
from tests.benchmarks.ours import assembled, composed
from tests.cli import TINY, call
from tests.gpu.bench import Bench
from tests.gpu.correct.kit import (
    FP32,
    apart,
    batch_of,
    moved,
    pair,
    steps_of,
    training_of,
    without_tf32,
)

__all__ = ["run"]

_FEW_BYTES = 2 << 30


def run(bench: Bench) -> None:
    """Runs the cases."""
    for optimizer in ("adamw", "muon"):
        bench.case(
            lambda bench, optimizer=optimizer: no_wait_in_a_step(bench, optimizer),
            name=f"no wait in a step, {optimizer}",
            needs=4,
            cuda=True,
        )
    for optimizer in ("adamw",) if bench.miniature else ("adamw", "muon"):
        bench.case(
            lambda bench, optimizer=optimizer: nonfinite_guard(bench, optimizer),
            name=f"nonfinite guard, {optimizer}",
            needs=4,
        )
    bench.case(placement, needs=4)
    bench.case(gradient_checkpointing, needs=6)
    bench.case(out_of_memory_in_a_sweep, needs=8)
    bench.case(out_of_memory_in_drawing, needs=4, cuda=True)


def no_wait_in_a_step(bench: Bench, optimizer: str) -> None:
    """Steps of training, in bfloat16, where every wait for the device is an error."""
    for placement in ("device", "memory"):
        training = training_of(
            bench,
            bench.scratch / f"waits_{optimizer}_{placement}",
            f"optimizer={optimizer}",
            f"data.placement={placement}",
            "trainer.precision=bf16",
        )
        training.objective = training.objective.objective  # It draws on the device itself.
        update = training._update()
        training.state.denoiser.train()
        for _ in range(3):
            update()
        torch.cuda.synchronize()
        # What is known to wait, and said so in the documentation, is let through.
        mode = "error" if update.guard.late else "warn"
        torch.cuda.set_sync_debug_mode(mode)
        try:
            for _ in range(5):
                update()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        told = "" if mode == "error" else "it waits once a step for the norm of the gradient"
        bench.expect(f"{optimizer}, images in {placement}: no wait in 5 steps", True, told=told)


def nonfinite_guard(bench: Bench, optimizer: str) -> None:
    """A batch that is no number touches no weight and no moment, and a layer is named."""
    training = training_of(bench, bench.scratch / f"guard_{optimizer}", f"optimizer={optimizer}")
    update = training._update()
    training.state.denoiser.train()
    for _ in range(2):
        update()
    update.settle()
    kept = copy.deepcopy(
        [*training.state.denoiser.state_dict().values(), *_moments(training.state.optimizer)]
    )
    whole = Update.batch

    def spoilt(self: Update) -> object:
        batch = whole(self)
        return batch._replace(x0=batch.x0.masked_fill(batch.x0 > 0, float("inf")))

    told = ""
    with patch.object(Update, "batch", spoilt):
        try:
            update()
            update.settle()
        except Diverged as error:
            told = str(error)
    now = [*training.state.denoiser.state_dict().values(), *_moments(training.state.optimizer)]
    same = all(torch.equal(one, other) for one, other in zip(now, kept, strict=True))
    bench.expect(f"{optimizer}: a batch with infinities is told", "not finite" in told, told=told)
    bench.expect(f"{optimizer}: it touches no weight and no moment", same)
    bench.expect(f"{optimizer}: the step is not counted", training.state.step == 2)


def _moments(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    values = [value for state in optimizer.state.values() for value in state.values()]
    return [value for value in values if torch.is_tensor(value)]


def placement(bench: Bench) -> None:
    """Images on the device, in memory and on disk make the same batches and the same losses."""
    folder = bench.scratch / "folder"
    generator = np.random.default_rng(0)
    for i in range(48):
        file = folder / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    data = ("data=folder", f"data.root={folder}", "data.image_size=16")
    cache = f"data.cache={bench.scratch / 'prepared'}"
    first = None
    for place in ("device", "memory", "disk"):
        training = training_of(
            bench, bench.scratch / f"at_{place}", *data, cache, f"data.placement={place}"
        )
        batches = Batches(
            training.train_split, batch_size=16, seed=0, device=bench.device, placement=place
        )
        drawn = [batches.batch(i) for i in range(6)]
        images = torch.stack([images for images, _ in drawn])
        labels = torch.stack([labels for _, labels in drawn])
        losses = torch.stack(steps_of(training, 3))
        if first is None:
            first = images, labels, losses
            continue
        same = torch.equal(images, first[0]) and torch.equal(labels, first[1])
        right = images.device.type == bench.device.type
        bench.expect(f"batches from {place} are those of the device", same and right)
        bench.check(f"losses from {place} are those of the device", apart(losses, first[2]), FP32)


@without_tf32()
def gradient_checkpointing(bench: Bench) -> None:
    """The same gradient in less memory."""
    size = () if bench.miniature else ("data.image_size=32", "model=unet_large")
    n = 4 if bench.miniature else 256
    found, peaks = [], []
    for kept in ("false", "true"):
        both = pair(bench, *size, f"model.gradient_checkpointing={kept}")
        x0, y, draw = batch_of(both, n)
        x0, y, draw = x0.to(bench.device), y.to(bench.device), moved(draw, bench.device)
        both.there.train()
        held = _held_and_peak(bench)[0]
        both.objective.at(both.there, x0, y, draw).mean().backward()
        peaks.append(_held_and_peak(bench)[1] - held)
        found.append([p.grad for p in both.there.parameters() if p.grad is not None])
    bench.check("gradient with checkpointing against without", apart(found[1], found[0]), FP32)
    if bench.cuda:
        bench.row(
            f"unet_large, {n} images of 32 px, float32",
            peak_gib=peaks[0] / 2**30,
            peak_gib_checkpointing=peaks[1] / 2**30,
        )
        bench.check("peak memory with checkpointing over without", peaks[1] / peaks[0], 0.75)


def _held_and_peak(bench: Bench) -> tuple[int, int]:
    """Bytes that are held now, and at the peak since this was last asked."""
    if not bench.cuda:
        return 0, 0
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated(bench.device)
    torch.cuda.reset_peak_memory_stats(bench.device)
    return torch.cuda.memory_allocated(bench.device), peak


@contextmanager
def _little_memory(bench: Bench, *, too_many: int) -> Iterator[None]:
    """Within, the GPU has two GiB; on a CPU steps of so many images raise as on a GPU."""
    if bench.cuda:
        whole = torch.cuda.get_device_properties(bench.device).total_memory
        torch.cuda.empty_cache()
        held = torch.cuda.memory_reserved(bench.device)
        torch.cuda.set_per_process_memory_fraction((held + _FEW_BYTES) / whole, bench.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
        return
    step = Update.__call__

    def short(self: Update) -> torch.Tensor:
        if self.settings.batch_size >= too_many:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return step(self)

    with patch.object(Update, "__call__", short):
        yield


def out_of_memory_in_a_sweep(bench: Bench) -> None:
    """The job that does not fit fails and says so; the one after it runs to its end."""
    many = 1 << 10 if bench.miniature else 1 << 18
    swept = ("batch_size=", "device=", "steps=", "_every=")
    arguments = [one for one in TINY if not any(part in one for part in swept)]
    folder = bench.scratch / "sweep"
    with _little_memory(bench, too_many=many):
        done = call(
            "train.py",
            "-m",
            *arguments,
            f"trainer.batch_size={many},16",
            "trainer.steps=2",
            "sampler.steps=1",
            "evaluate.every=0",
            f"trainer.device={bench.device}",
            "trainer.compile=none",
            "tracker=none",
            f"hydra.sweep.dir={folder}",
            cwd=bench.scratch,
        )
    bench.log(done.printed[-3000:])
    lines = [line.strip() for line in done.printed.splitlines()]
    told = next((line for line in lines if "out of memory" in line.lower()), "nothing")
    bench.expect(
        "a job that does not fit says so", "out of memory" in told.lower(), told=told[:200]
    )
    summed = next((line for line in lines if "jobs finished" in line), "no summary")
    bench.expect("the sweep goes on", "1 of 2 jobs finished" in summed, told=summed[-80:])
    bench.expect("the sweep's exit status says that one failed", done.status == 1)


def out_of_memory_in_drawing(bench: Bench) -> None:
    """Drawing goes on with fewer at a time, and the images are the same but for rounding."""
    cfg = composed("data=digits", "model.channels=[64,128]", "sampler=ddim", "sampler.steps=2")
    training = assembled(
        *("data=digits", "model.channels=[64,128]", "tracker=none", "trainer.compile=none"),
        folder=bench.scratch / "drawing",
    )
    denoiser = training.state.denoiser.eval()
    pipeline = Pipeline(
        sampler=instantiate(cfg.sampler),
        guidance=instantiate(cfg.guidance),
        threshold=instantiate(cfg.threshold),
        image_shape=(1, 64, 64),
        batch_size=1024,
    )
    y = torch.arange(1024) % 10
    with _little_memory(bench, too_many=0):
        few, _ = pipeline(denoiser, y, None, seeds=range(1024))
    most = pipeline.portions.most
    bench.expect("drawing goes on with fewer at a time", most is not None, told=f"{most}")
    alone, _ = replace(pipeline, batch_size=32)(denoiser, y[:32], None, seeds=range(32))
    levels = (alone.int() - few[:32].int()).abs().max().item()
    bench.check("gray levels by which images differ", levels, 2)
