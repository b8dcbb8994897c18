"""Every option of a group: drawn on the GPU as on the CPU, and without a wait in between."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from ccdiff.config.build import instantiate
from ccdiff.diffusion.guidance import AutoGuidance
from ccdiff.diffusion.samplers import SampleNoise, sample
from tests.gpu.bench import Bench
from tests.gpu.correct.kit import (
    DRAWN,
    FP32,
    Pair,
    apart,
    awaken,
    batch_of,
    draw_images,
    moved,
    options_of,
    pair,
    without_tf32,
)

__all__ = ["run"]

_DRAWING = ("sampler", "sampler/grid", "guidance", "threshold")
_TRAINING = ("objective", "prediction", "schedule", "weighting", "times")
_ALONE = {
    "sampler/grid=fitted": "is fitted to a run",
    "sampler=fitted": "is fitted to a run",
    "guidance=attributes": "takes labels of several attributes",
}
"""What takes more than a denoiser of classes, and is so left out here."""


_WITH = {
    "sampler=meanflow": ("objective=meanflow", "model.interval=true"),
    "sampler=shortcut": ("objective=shortcut", "model.interval=true"),
    "sampler=consistency": ("objective=consistency",),
    "objective=meanflow": ("objective=meanflow", "model.interval=true"),
    "objective=shortcut": ("objective=shortcut", "model.interval=true"),
    "objective=consistency": ("objective=consistency",),
    "objective=model_guidance": ("objective=model_guidance", "conditioning.drop=0.1"),
}
"""What goes with another choice alone, and is so composed whole."""


def run(bench: Bench) -> None:
    """Runs the cases."""
    with without_tf32():
        for groups, case in ((_DRAWING, _draws_alike), (_TRAINING, _loses_alike)):
            for group in groups:
                choices = [f"{group}={option}" for option in options_of(group)]
                choices = [choice for choice in choices if choice not in _ALONE]
                # In miniature two of them: that all can be composed, other tests see to.
                for choice in {choices[0], choices[-1]} if bench.miniature else choices:
                    _one(bench, case, choice)


def _one(bench: Bench, case: Callable[[Bench, str], None], choice: str) -> None:
    bench.case(lambda bench: without_tf32()(partial(case, bench, choice))(), name=choice, needs=1)


def _draws_alike(bench: Bench, choice: str) -> None:
    """Images of both devices, and of the GPU once more under the detector of waits."""
    weak = choice == "guidance=autoguidance"
    # From pure noise, a prediction of the noise has an estimate of (x - sigma F) / alpha, which
    # multiplies rounding by a thousand, and then nothing is compared but that.
    settings = ("conditioning.drop=0.1", "prediction=velocity")
    whole = _WITH.get(choice, ())
    both = pair(bench, *settings, *whole, choice=None if weak or whole else choice)
    sampler = replace(instantiate(both.cfg.sampler), steps=3 if bench.miniature else 8)
    guided = None
    if weak:
        guided = AutoGuidance(weak=awaken(pair(bench, *settings).here, seed=1), scale=2.0)
    there = draw_images(both, both.there, sampler=sampler, n=4, guided=guided)
    here = draw_images(both, both.here, sampler=sampler, n=4, guided=guided)
    bench.check(f"{choice}: images against the CPU", apart(there, here), DRAWN)
    if bench.cuda:
        _without_waiting(bench, choice, both, sampler, guided)


def _without_waiting(
    bench: Bench, choice: str, both: Pair, sampler: object, guided: object
) -> None:
    """The loop of sampling, with noise of the device, where every wait is an error."""
    y = torch.zeros(4, dtype=torch.long, device=bench.device)
    guidance = instantiate(both.cfg.guidance) if guided is None else guided
    denoise = instantiate(both.cfg.threshold)(guidance(both.there, y, None))
    noise = SampleNoise(range(4), device=bench.device)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        sample(sampler, denoise, both.there.schedule, (4, *both.shape), noise)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    bench.expect(f"{choice}: no wait while drawing", True)


def _loses_alike(bench: Bench, choice: str) -> None:
    """Loss and gradient of both devices."""
    whole = _WITH.get(choice, ())
    both = pair(bench, *whole, choice=None if whole else choice)
    x0, y, draw = batch_of(both, 8)
    found = []
    for denoiser, device in ((both.there, bench.device), (both.here, torch.device("cpu"))):
        denoiser.train()
        loss = both.objective.at(denoiser, x0.to(device), y.to(device), moved(draw, device))
        loss.mean().backward()
        found.append((loss, [p.grad for p in denoiser.parameters() if p.grad is not None]))
    for what, one, other in zip(("loss", "gradient"), *found, strict=True):
        bench.check(f"{choice}: {what} against the CPU", apart(one, other), FP32)
