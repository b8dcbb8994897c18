"""What the part ``speed`` times: each prepared (built, compiled, warmed up), then timed when told.

Whoever prepares need not be alone on the device; whoever is timed is.
"""

import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from torch import nn

from ccdiff.config.build import build_denoiser, instantiate
from ccdiff.diffusion.samplers import DPMpp2M
from ccdiff.generation.pipeline import Pipeline
from ccdiff.settings import Compile, Precision
from ccdiff.system.device import autocast_dtype, compile_mode, make_current
from ccdiff.training.monitor.speed import Speed, matmul_peak
from tests.benchmarks.kit import count, training_flops
from tests.benchmarks.ours import assembled, batches_of, composed, updater
from tests.benchmarks.peers import ddpm_peer, diffusers_large, diffusers_peer, step

__all__ = ["NOISE", "PREPARE", "Case", "Measure", "serve"]

NOISE = (
    *("data=digits", "data._target_=tests.benchmarks.ours.NoiseImages", "data.channels=3"),
    "tracker=none",
)
"""Images to which pixels do not matter."""

Measure = Callable[[float], dict[str, object]]
"""Takes about so many seconds; returns figures."""

_ATTEMPTS = 4
_WAIT = 8.0
"""Seconds until another try where memory ran out, which others took that compile meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Something to time.

    Arguments:
        name: In tables.
        kind: Of :data:`PREPARE`.
        size: Height and width of images.
        batch: Images at a time.
        seconds: How long to time it for.
        overrides: Of our config.
        compile: How it is compiled by ``torch.compile``: a mode of our ``trainer.compile``.
        calls: Of the network for an image, where images are drawn.
        images: To draw.
        tiny: Whether networks of peers are to be as small as can be.
    """

    name: str
    kind: str
    size: int = 32
    batch: int = 512
    seconds: float = 3.0
    overrides: tuple[str, ...] = ()
    compile: Compile = Compile.default
    calls: int = 0
    images: int = 0
    tiny: bool = False


def serve(case: Case, device: torch.device, pipe: Connection) -> None:
    """Prepares the case, says ``ready``, and once it is sent a number of seconds, what it found.

    What goes wrong is sent as ``failed`` with the traceback; ``None`` in place of seconds ends it.
    """
    try:
        measure = _prepared(case, device)
        pipe.send(("ready", None))
        seconds = pipe.recv()
        if seconds is not None:
            pipe.send(("done", measure(seconds)))
    except EOFError:
        pass
    except Exception:
        pipe.send(("failed", traceback.format_exc()))


def _prepared(case: Case, device: torch.device) -> Measure:
    for attempt in range(_ATTEMPTS):
        try:
            return _prepare(case, device)
        except torch.OutOfMemoryError:
            if attempt == _ATTEMPTS - 1:
                raise
        # Out here, since the error holds on to the tensors of the attempt.
        _free(device)
        time.sleep(_WAIT)
    raise AssertionError


def _prepare(case: Case, device: torch.device) -> Measure:
    make_current(device)
    started = time.perf_counter()
    measure = PREPARE[case.kind](case, device)
    _free(device)
    seconds = time.perf_counter() - started
    return lambda limit: {**measure(limit), "prepared_in_s": round(seconds, 1)}


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _warm_up(run: Callable[[], object], device: torch.device) -> None:
    for _ in range(2):
        run()
    _wait(device)


def _per_step(
    run: Callable[[], object], device: torch.device, seconds: float
) -> tuple[float, int]:
    """Seconds per step, and over how many steps, the first few left out."""

    def taken(n: int) -> float:
        _wait(device)
        started = time.perf_counter()
        for _ in range(n):
            run()
        _wait(device)
        return time.perf_counter() - started

    taken(3)
    trial = taken(3) / 3
    n = max(3, min(1000, int(seconds / trial)))
    return taken(n) / n, n


def _figures(
    case: Case,
    network: nn.Module,
    device: torch.device,
    *,
    flops: float,
    per_step: float,
    steps: int,
    split: str = "",
) -> dict[str, object]:
    """Of a training step."""
    matmul_peak.cache_clear()  # It was measured beside others that compiled.
    peak = matmul_peak(device, autocast_dtype(Precision.bf16, device) or torch.float32)
    rate = case.batch / per_step
    found = Speed(int(flops), peak).figures(rate)
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {
        "batch": case.batch,
        "images_per_second": rate,
        "mfu": found.get("train/mfu"),
        "tflop_per_second": found["train/flops_per_second"] / 1e12,
        "peak_tflop_per_second": peak / 1e12,
        "ms_per_step": 1e3 * per_step,
        "steps_timed": steps,
        "parameters": count(network),
        "gflop_per_image": flops / 1e9,
        "peak_gib": memory,
        "time_split": split,
    }


def _ours(case: Case, device: torch.device) -> Measure:
    """The step of the training loop, from drawing the batch to the averaged weights."""
    training = assembled(
        *case.overrides,
        *NOISE,
        f"data.image_size={case.size}",
        f"trainer.batch_size={case.batch}",
        f"trainer.device={device}",
        "trainer.precision=bf16",
        f"trainer.compile={case.compile.name}",
    )
    update = updater(training, batches_of(training))
    _warm_up(update, device)

    def measure(seconds: float) -> dict[str, object]:
        training.timer.read()
        training.timer.start()  # The wait for the turn is in no part.
        per_step, steps = _per_step(update, device, seconds)
        update.settle()
        spent = training.timer.read()
        whole = sum(spent.values()) or 1.0
        shares = {part: s / whole for part, s in spent.items() if part != "hooks"}
        return _figures(
            case,
            training.state.denoiser,
            device,
            flops=training.speed.flops_per_image,
            per_step=per_step,
            steps=steps,
            split=", ".join(f"{part} {100 * share:.0f} %" for part, share in shares.items()),
        )

    return measure


def _diffusers(case: Case, device: torch.device) -> Measure:
    """UNet2DModel at as many parameters as unet_large, with all that makes it quick."""
    network = diffusers_large(case.size, tiny=case.tiny)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    peer = diffusers_peer(network)
    return _theirs(case, device, network, peer)


def _ddpm(case: Case, device: torch.device) -> Measure:
    """denoising-diffusion-pytorch at nearly as many parameters and operations."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    dim, multiples = (8, (1, 2)) if case.tiny else (128, (1, 2, 4, 4))
    network = Unet(dim=dim, dim_mults=multiples, channels=3)
    diffusion = GaussianDiffusion(network, image_size=case.size, timesteps=1000)
    peer = ddpm_peer(diffusion.to(device, memory_format=torch.channels_last))
    return _theirs(case, device, network, peer)


def _theirs(case: Case, device: torch.device, network: nn.Module, peer) -> Measure:
    shape = (3, case.size, case.size)
    flops = training_flops(peer.loss, peer.network, shape)
    if mode := compile_mode(case.compile, device):
        # Only now: operations are counted of the network as it is written.
        network.compile(mode=mode)
    images = torch.rand(case.batch, *shape, device=device).to(memory_format=torch.channels_last)
    run = step(peer, images, bf16=True)
    _warm_up(run, device)

    def measure(seconds: float) -> dict[str, object]:
        per_step, steps = _per_step(run, device, seconds)
        return _figures(case, network, device, flops=flops, per_step=per_step, steps=steps)

    return measure


def _sampling(case: Case, device: torch.device) -> Measure:
    """What ``sample.py`` draws with, one network call per step, without guidance."""
    cfg = composed(*case.overrides, *NOISE, f"data.image_size={case.size}")
    denoiser = build_denoiser(cfg).eval().requires_grad_(False).to(device)
    denoiser.autocast_dtype = autocast_dtype(Precision.bf16, device)
    nn.init.normal_(denoiser.network.out.weight, std=0.02)  # It starts at zero.
    if mode := compile_mode(case.compile, device):
        denoiser.network.compile(mode=mode)
    pipeline = Pipeline(
        sampler=DPMpp2M(steps=case.calls),
        guidance=instantiate(composed().guidance),
        threshold=instantiate(cfg.threshold),
        image_shape=(3, case.size, case.size),
        batch_size=case.batch,
    )

    def draw(n: int) -> float:
        started = time.perf_counter()
        images, _ = pipeline(denoiser, torch.arange(n) % 10, None, seeds=range(n))
        assert len(images) == n
        return time.perf_counter() - started

    _warm_up(lambda: draw(case.batch), device)

    def measure(limit: float) -> dict[str, object]:
        draw(case.batch)
        each = draw(case.batch)
        batches = max(1, min(case.images // case.batch, int(limit / each)))
        seconds = draw(batches * case.batch)
        rate = batches * case.batch / seconds
        return {
            "batch": case.batch,
            "calls": case.calls,
            "compiled": case.compile.name,
            "images": batches * case.batch,
            "seconds": seconds,
            "images_per_second": rate,
            "seconds_for_50000": 50_000 / rate,
            "extrapolated": batches * case.batch < 50_000,
            "parameters": count(denoiser.network),
        }

    return measure


PREPARE: dict[str, Callable[[Case, torch.device], Measure]] = {
    "ours": _ours,
    "diffusers": _diffusers,
    "ddpm": _ddpm,
    "sampling": _sampling,
}
