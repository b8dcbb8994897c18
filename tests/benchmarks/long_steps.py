"""One and two learned steps against many solved ones: quality and images per second, in one run.

``uv run --group bench python -m tests.benchmarks.long_steps --teacher <run> --tuned <run> ...``
draws as many images of each class from each, and judges all by one classifier. The teacher is
drawn from by UniPC in 20 calls, and by DPM-Solver++ of diffusers in fewer and fewer; each of its
calls sees a doubled batch where it is guided. Tuned runs are drawn from by their own sampler.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from ccdiff.config.build import instantiate
from ccdiff.data import to_uint8
from ccdiff.diffusion.guidance import CFG, Guidance, NoGuidance
from ccdiff.diffusion.samplers import SampleNoise, Sampler, UniPC, sample
from ccdiff.diffusion.samplers.grids import Logistic
from ccdiff.metrics.extractors import ClassifierSource, Material
from ccdiff.metrics.judge import Judge
from ccdiff.metrics.references import reference
from ccdiff.metrics.sketch import Sketch
from ccdiff.pictures import grid, save_png
from ccdiff.trained.run import OpenedRun, open_run
from tests.benchmarks.few_calls import drive

__all__ = ["Result", "judged", "main", "table"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a way of drawing comes to.

    Arguments:
        name: What it is.
        calls: Steps, each one call of the network.
        agreement: Share of the images that show what was asked for.
        distance: Of the classifier's features to held-out images.
        rate: Images per second.
    """

    name: str
    calls: int
    agreement: float
    distance: float
    rate: float


def judged(
    ways: dict[tuple[str, int], Callable[[], Tensor]], judge: Judge, y: Tensor, against: Sketch
) -> list[Result]:
    """Draws in each way and judges what comes, images [N, C, H, W] in [-1, 1].

    Arguments:
        ways: By name and number of calls.
        judge: Of all alike.
        y: What images shall show.
        against: Features of real images.
    """
    results = []
    for (name, calls), draw in ways.items():
        started = time.perf_counter()
        images = to_uint8(draw())
        rate = len(y) / (time.perf_counter() - started)
        found = judge.readings(images, y, against)
        values = {key.partition("_")[0]: reading.value for key, reading in found.items()}
        results.append(
            Result(
                name=name,
                calls=calls,
                agreement=values["label"],
                distance=values["fd"],
                rate=rate,
            )
        )
        print(results[-1], flush=True)
    return results


def table(results: Sequence[Result]) -> str:
    """Markdown, with ratios against the first one."""
    first = results[0]
    lines = [
        "| way | calls | label agreement | fd_classifier | against the first | images/s |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.name} | {r.calls} | {r.agreement:.1%} | {r.distance:.4g} "
        f"| {r.distance / first.distance:.2f} | {r.rate:.1f} |"
        for r in results
    ]
    return "\n".join(lines)


def _opened(path: str) -> OpenedRun:
    asked = {"run": path, "weights": "ema", "device": "cpu", "precision": "auto"}
    return open_run(OmegaConf.create(asked))


def _of(
    run: OpenedRun, sampler: Sampler, guidance: Guidance, y: Tensor, seeds: range
) -> Callable[[], Tensor]:
    def draw() -> Tensor:
        denoise = guidance(run.denoiser, y)
        shape = (len(y), *run.image_shape)
        return sample(sampler, denoise, run.denoiser.schedule, shape, SampleNoise(seeds))

    return draw


def _by_diffusers(
    run: OpenedRun, calls: int, guidance: Guidance, y: Tensor, seeds: range
) -> Callable[[], Tensor]:
    from diffusers import DPMSolverMultistepScheduler

    schedule = run.denoiser.schedule
    log_snr = schedule.log_snr(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    alpha_bar = torch.sigmoid(log_snr)
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    scheduler = DPMSolverMultistepScheduler(
        trained_betas=(1 - alpha_bar / before).numpy(),
        prediction_type="sample",
        timestep_spacing="trailing",
        lower_order_final=True,
    )

    def draw() -> Tensor:
        eps = SampleNoise(seeds).randn(torch.Size((len(y), *run.image_shape)))
        return drive(scheduler, schedule, eps, calls, guidance(run.denoiser, y))

    return draw


def main() -> None:
    """Prints the table, and keeps a grid of each way where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--tuned", nargs="*", default=[])
    parser.add_argument("--scale", type=float, default=3.0, help="of the teacher's guidance")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--judged-by", type=int, help="training images of the classifier")
    parser.add_argument("--cache", default=".ccdiff_cache")
    parser.add_argument("--pictures", help="folder for a grid of each way")
    args = parser.parse_args()
    teacher = _opened(args.teacher)
    train, heldout = teacher.data_set().load()
    names = teacher.denoiser.conditioning.label_names
    material = Material(
        train=train.take(args.judged_by or len(train)),
        heldout=heldout,
        num_labels=len(names),
        flip=False,
        cache=Path(args.cache),
        device=torch.device("cpu"),
    )
    judge = Judge.open(ClassifierSource(), material)
    y, seeds = torch.arange(args.images) % len(names), range(args.images)
    guided = NoGuidance() if args.scale == 1 else CFG(scale=args.scale)
    ways: dict[tuple[str, int], Callable[[], Tensor]] = {
        ("teacher, unipc", 20): _of(teacher, UniPC(steps=20, grid=Logistic()), guided, y, seeds)
    }
    for path in args.tuned:
        run = _opened(path)
        sampler = instantiate(run.config.sampler)
        for steps in (1, 2):
            way = _of(run, replace(sampler, steps=steps), NoGuidance(), y, seeds)
            ways[f"{Path(path).name}, {sampler.name}", steps] = way
    for calls in (10, 8, 6, 5, 4, 3, 2):
        way = _by_diffusers(teacher, calls, guided, y, seeds)
        ways["teacher, DPM-Solver++ of diffusers", calls] = way
    with torch.no_grad():
        next(iter(ways.values()))()  # The first batch of a process is slower than all others.
        against = reference(heldout, judge.extractor, name="heldout", cache=material.cache)
        results = judged(ways, judge, y, against)
    print(table(results))
    if args.pictures:
        few = slice(0, 8 * len(names))
        for (name, calls), draw in ways.items():
            picture = grid(to_uint8(draw()[few]), columns=len(names), titles=[""] * 8)
            save_png(picture, Path(args.pictures) / f"{name.replace(' ', '_')}_{calls}.png")


if __name__ == "__main__":
    main()
