"""One and two learned steps against many solved ones: quality and images per second, in one run.

``uv run --group bench python -m tests.benchmarks.long_steps --teacher <run> --tuned <run> ...``
draws as many images of each class from each, and judges all by one classifier. The teacher is
drawn from by UniPC in 20 calls, and by DPM-Solver++ of diffusers in fewer and fewer; each of its
calls sees a doubled batch where it is guided. Tuned runs are drawn from by their own sampler.

``--picture <file>`` shows the same noise and labels in 1, 2, 5, 10 and 20 calls of each way, by
the teacher's own sampler too, and by coefficients that are kept in its run.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from omegaconf import OmegaConf
from PIL import Image
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
from tests.benchmarks.few_calls import betas_of, drive, kept_in
from tests.headings import headed

__all__ = ["Result", "judged", "main", "side_by_side", "table"]

Draws = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] in [-1, 1] for labels [N], the i-th from seed i."""
_SHOWN_CALLS = (1, 2, 5, 10, 20)
_SHOWN_LABELS = (2, 3, 5, 8)


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
    ways: Mapping[tuple[str, int], Draws], judge: Judge, y: Tensor, against: Sketch
) -> list[Result]:
    """Draws in each way and judges what comes.

    Arguments:
        ways: By name and number of calls.
        judge: Of all alike.
        y: What images shall show.
        against: Features of real images.
    """
    results = []
    for (name, calls), draw in ways.items():
        started = time.perf_counter()
        images = to_uint8(draw(y))
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


def _of(run: OpenedRun, sampler: Sampler, guidance: Guidance) -> Draws:
    def draw(y: Tensor) -> Tensor:
        denoise = guidance(run.denoiser, y)
        shape = (len(y), *run.image_shape)
        return sample(sampler, denoise, run.denoiser.schedule, shape, SampleNoise(range(len(y))))

    return draw


def _by_diffusers(run: OpenedRun, calls: int, guidance: Guidance) -> Draws:
    from diffusers import DPMSolverMultistepScheduler

    schedule = run.denoiser.schedule
    scheduler = DPMSolverMultistepScheduler(
        trained_betas=betas_of(schedule),
        prediction_type="sample",
        timestep_spacing="trailing",
        lower_order_final=True,
    )

    def draw(y: Tensor) -> Tensor:
        eps = SampleNoise(range(len(y))).randn(torch.Size((len(y), *run.image_shape)))
        return drive(scheduler, schedule, calls, eps, guidance(run.denoiser, y))

    return draw


def _shown(
    teacher: OpenedRun, tuned: Sequence[OpenedRun], guidance: Guidance
) -> dict[tuple[str, int], Draws]:
    """All ways of the picture, those of few calls last."""
    ways: dict[tuple[str, int], Draws] = {}
    own = instantiate(teacher.config.sampler)
    for calls in _SHOWN_CALLS:
        ways[own.name, calls] = _of(teacher, replace(own, steps=calls), guidance)
        ways["DPM-Solver++, diffusers", calls] = _by_diffusers(teacher, calls, guidance)
        ways["unipc", calls] = _of(teacher, UniPC(steps=calls, grid=Logistic()), guidance)
    for calls in (5, 10):
        ways["fitted", calls] = _of(teacher, kept_in(teacher, calls), guidance)
    for run in tuned:
        sampler = instantiate(run.config.sampler)
        for calls in (1, 2):
            ways[sampler.name, calls] = _of(run, replace(sampler, steps=calls), NoGuidance())
    return ways


def side_by_side(ways: Mapping[tuple[str, int], Draws], labels: Sequence[int]) -> Image.Image:
    """A row for each way, and in it the same images in more and more calls; white where none is.

    Arguments:
        ways: By name and number of calls.
        labels: What each image shall show.
    """
    names = list(dict.fromkeys(name for name, _ in ways))
    calls = sorted({number for _, number in ways})
    drawn = {key: to_uint8(draw(torch.tensor(labels))) for key, draw in ways.items()}
    nothing = torch.full_like(next(iter(drawn.values())), 255)
    cells = [
        part
        for name in names
        for number in calls
        for part in (drawn.get((name, number), nothing), nothing[:1])
    ]
    columns = len(calls) * (len(labels) + 1)
    rows = grid(torch.cat(cells), columns=columns, titles=names)
    # One row without its title is as wide as all blocks.
    block = grid(torch.cat(cells[: 2 * len(calls)]), columns=columns).width / len(calls)
    left = rows.width - len(calls) * block + 4
    heads = {left + i * block: f"{n} call{'s' if n > 1 else ''}" for i, n in enumerate(calls)}
    return headed(rows, heads, height=24, size=14)


def main() -> None:
    """Prints the table, and keeps a grid of each way where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--tuned", nargs="*", default=[])
    parser.add_argument("--scale", type=float, default=3.0, help="of the teacher's guidance")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--judged-by", type=int, help="training images of the classifier")
    parser.add_argument("--cache", default=".ccdiff_cache")
    parser.add_argument("--picture", help="file for some images of each way")
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
    y = torch.arange(args.images) % len(names)
    guided = NoGuidance() if args.scale == 1 else CFG(scale=args.scale)
    tuned = {path: _opened(path) for path in args.tuned}
    if args.picture:
        with torch.no_grad():
            shown = side_by_side(_shown(teacher, list(tuned.values()), guided), _SHOWN_LABELS)
        save_png(shown, Path(args.picture))
    ways: dict[tuple[str, int], Draws] = {
        ("teacher, unipc", 20): _of(teacher, UniPC(steps=20, grid=Logistic()), guided)
    }
    for path, run in tuned.items():
        sampler = instantiate(run.config.sampler)
        for steps in (1, 2):
            way = _of(run, replace(sampler, steps=steps), NoGuidance())
            ways[f"{Path(path).name}, {sampler.name}", steps] = way
    for calls in (10, 8, 6, 5, 4, 3, 2):
        way = _by_diffusers(teacher, calls, guided)
        ways["teacher, DPM-Solver++ of diffusers", calls] = way
    with torch.no_grad():
        next(iter(ways.values()))(y)  # The first batch of a process is slower than all others.
        against = reference(heldout, judge.extractor, name="heldout", cache=material.cache)
        results = judged(ways, judge, y, against)
    print(table(results))


if __name__ == "__main__":
    main()
