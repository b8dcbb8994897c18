"""How near 5 and 10 calls come to a trained model's own ODE, against diffusers' schedulers.

``uv run --group bench python -m tests.benchmarks.few_calls <run> ...`` prints a table for each
run, best first. Every scheduler of diffusers that solves the ODE is driven by our model, on every
spacing that it offers, with our alphas and the same noise; ours are on their default grid, and,
where that is asked for, with the coefficients that were fitted to the run. What is compared is the
root mean square to the fine solution, over all pixels.

With ``--judge`` more images are drawn, from other noise, by our default, by what was fitted, and
by diffusers' nearest two with as many calls and with twice as many; what is compared is the
distance of the classifier's features to those of held-out images.
"""

import argparse
import inspect
import itertools
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from torch import Tensor

from ccdiff.config.build import instantiate
from ccdiff.config.options import compose_option
from ccdiff.data import to_uint8
from ccdiff.diffusion.denoiser import Denoise, bind_label
from ccdiff.diffusion.samplers import DDIM, DPMpp2M, GivenNoise, Heun, Sampler, UniPC, sample
from ccdiff.diffusion.samplers.fitting import fine_solution
from ccdiff.diffusion.samplers.grids import Logistic
from ccdiff.diffusion.schedules import Schedule
from ccdiff.metrics.judge import Reading
from ccdiff.metrics.references import asked_labels
from ccdiff.trained.grids import fill_in_grid
from ccdiff.trained.run import OpenedRun, open_run
from tests.benchmarks.ideas_data import judged_of

__all__ = [
    "Way",
    "betas_of",
    "drive",
    "judged_table",
    "kept_in",
    "main",
    "nearest_of_diffusers",
    "schedulers",
    "table",
]

Draws = Callable[[Tensor, Denoise], Tensor]

_STEPS = 1000
_OURS = (UniPC, DPMpp2M, DDIM, Heun)


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to draw, and what it comes to.

    Arguments:
        name: What it is.
        calls: Of the network.
        rms: To the fine solution.
        draw: Draws so from noise [B, C, H, W] by any :data:`Denoise`.
    """

    name: str
    calls: int
    rms: float
    draw: "Draws"

    @property
    def ours(self) -> bool:
        """Whether it is not diffusers'."""
        return self.name.startswith("ccdiff")


class Counted:
    """A :data:`Denoise` that counts how often it was called."""

    def __init__(self, denoise: Denoise) -> None:
        self.denoise, self.calls = denoise, 0

    def __call__(self, x_t: Tensor, level: Any) -> Tensor:
        self.calls += 1
        return self.denoise(x_t, level)


def betas_of(schedule: Schedule) -> Any:
    """The betas by which diffusers has our alphas, a float64 array [1000]."""
    log_snr = schedule.log_snr(torch.arange(1, _STEPS + 1, dtype=torch.float64) / _STEPS)
    alpha_bar = torch.sigmoid(log_snr)
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    return (1 - alpha_bar / before).clamp(1e-9, 1 - 1e-9).numpy()


def schedulers(schedule: Schedule) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Makes those of diffusers that solve the ODE, with each spacing, for our alphas."""
    import diffusers

    betas = betas_of(schedule)
    spacings = [{"timestep_spacing": s} for s in ("linspace", "leading", "trailing")]
    sigmas = [
        {f"use_{s}_sigmas": True, "timestep_spacing": "linspace"}
        for s in ("karras", "exponential", "beta")
    ]
    lus = [{"use_lu_lambdas": True}]
    kinds: list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]] = [
        ("DDIMScheduler", [{"clip_sample": False}], spacings),
        ("PNDMScheduler", [{"skip_prk_steps": True}], spacings),
        ("DEISMultistepScheduler", [{"solver_order": k} for k in (2, 3)], spacings + sigmas),
        (
            "DPMSolverMultistepScheduler",
            [{"solver_order": k, "lower_order_final": True} for k in (2, 3)],
            spacings + sigmas + lus,
        ),
        ("DPMSolverSinglestepScheduler", [{"solver_order": k} for k in (2, 3)], sigmas),
        (
            "UniPCMultistepScheduler",
            [{"solver_order": k, "solver_type": b} for k in (2, 3) for b in ("bh1", "bh2")],
            spacings + sigmas,
        ),
        ("EulerDiscreteScheduler", [{}], spacings + sigmas),
        ("HeunDiscreteScheduler", [{}], spacings + sigmas),
        ("KDPM2DiscreteScheduler", [{}], spacings + sigmas),
        ("LMSDiscreteScheduler", [{}], spacings + sigmas),
    ]
    for name, settings, grids in kinds:
        for setting, grid in itertools.product(settings, grids):
            cls = getattr(diffusers, name)
            takes = inspect.signature(cls).parameters
            if any(key.startswith("use_") and key not in takes for key in grid):
                continue
            grid = {key: value for key, value in grid.items() if key in takes}
            kind = "epsilon" if name.startswith(("PNDM", "KDPM2")) else "sample"
            make = partial(cls, trained_betas=betas, prediction_type=kind, **setting, **grid)
            told = [f"{v}" for v in (*setting.values(), *grid.values()) if not isinstance(v, bool)]
            told += [k for k, v in grid.items() if v is True]
            yield f"{name.removesuffix('Scheduler')} {' '.join(told)}", make


@torch.no_grad()
def drive(scheduler: Any, schedule: Schedule, steps: int, eps: Tensor, denoise: Denoise) -> Tensor:
    """Draws by a scheduler of diffusers, whose times or noise levels are handed to our model."""
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # Rounded times may come twice, and it would look them up.
    x = eps * float(scheduler.init_noise_sigma)
    exploding = float(scheduler.init_noise_sigma) > 1.5
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        if hasattr(scheduler, "sigmas"):
            if scheduler.step_index is None:
                scheduler._init_step_index(t)
            sigma = torch.as_tensor(scheduler.sigmas[scheduler.step_index], dtype=torch.float64)
            if not exploding and hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
                sigma = sigma.clamp(min=1e-12)
            level = schedule.at_log_snr(-2 * sigma.log())
        else:
            level = schedule.at((torch.as_tensor(t, dtype=torch.float64) + 1) / _STEPS)
        x0_hat = denoise(scaled, level)
        told = x0_hat
        if scheduler.config.prediction_type == "epsilon":
            told = (scaled - level.alpha * x0_hat) / level.sigma
        x = scheduler.step(told, t, x).prev_sample
    return x.to(eps.dtype)


def _draw(sampler: Sampler, schedule: Schedule, eps: Tensor, denoise: Denoise) -> Tensor:
    return sample(sampler, denoise, schedule, eps.shape, GivenNoise(eps))


def _fewest_steps(name: str, calls: int) -> int:
    """As many steps as do not take more calls."""
    twice = name.startswith(("Heun", "KDPM2"))
    return (calls + 1) // 2 if twice else calls


def compared(
    denoise: Denoise,
    schedule: Schedule,
    eps: Tensor,
    exact: Tensor,
    *,
    calls: int,
    fitted: Callable[[int], dict[str, Sampler]] | None = None,
) -> list[Way]:
    """All ways with at most so many calls, best first; what fails is left out, and said.

    Arguments:
        denoise: The model with its labels.
        schedule: Its schedule.
        eps: Noise to start from.
        exact: Where the ODE leads.
        calls: The most that a way may take.
        fitted: Gives samplers that were fitted for so many calls, by their names.
    """
    ways = []

    def add(name: str, draw: Draws) -> None:
        counted = Counted(denoise)
        try:
            x = draw(eps, counted)
        except (ValueError, NotImplementedError, IndexError, AttributeError, RuntimeError) as e:
            logging.warning("%s: %s", name, str(e).splitlines()[0] if str(e) else type(e).__name__)
            return
        rms = (x - exact).square().mean().sqrt().item()
        ways.append(Way(name=name, calls=counted.calls, rms=rms, draw=draw))

    ours: dict[str, Sampler] = {}
    for cls in _OURS:
        steps = (calls + 1) // 2 if cls is Heun else calls
        ours[f"ccdiff {cls.__name__}"] = cls(steps=steps, grid=Logistic())
    for name, made in {**ours, **(fitted(calls) if fitted else {})}.items():
        add(name, partial(_draw, made, schedule))
    for name, make in schedulers(schedule):
        steps = _fewest_steps(name, calls)
        add(name, partial(drive, make(), schedule, steps))
    known = [way for way in ways if way.rms == way.rms and way.calls <= calls]
    return sorted(known, key=lambda way: way.rms)


def nearest_of_diffusers(ways: list[Way], n: int = 1) -> list[Way]:
    """So many of diffusers' schedulers, each on its best spacing, nearest first."""
    found: dict[str, Way] = {}
    for way in ways:
        if not way.ours:
            found.setdefault(way.name.split()[0], way)
    return list(found.values())[:n]


def table(ways: list[Way], *, shown: int = 8) -> str:
    """Markdown of the best ways and all of ours, with ratios to the best of diffusers.

    Arguments:
        ways: Best first.
        shown: How many of the best.
    """
    (peer,) = nearest_of_diffusers(ways)
    lines = ["| way | calls | RMS to the ODE | against diffusers' best |", "|---|---|---|---|"]
    lines += [
        f"| {way.name} | {way.calls} | {way.rms:.4f} | {way.rms / peer.rms:.2f} |"
        for i, way in enumerate(ways)
        if i < shown or way.ours
    ]
    return "\n".join(lines)


def judged_table(ways: list[Way], distance: Callable[[Draws], Reading]) -> str:
    """Markdown of how far what they draw is from real images, with intervals of 95 %."""
    lines = ["| way | calls | RMS to the ODE | fd_classifier | of 95 % |", "|---|---|---|---|---|"]
    for way in ways:
        value, (low, high) = distance(way.draw)
        span = f"{low:.4g} to {high:.4g}"
        lines.append(f"| {way.name} | {way.calls} | {way.rms:.4f} | {value:.4g} | {span} |")
    return "\n".join(lines)


def kept_in(run: OpenedRun, calls: int) -> Sampler:
    """What ``python -m ccdiff.fit run=<run> sampler=fitted`` has kept in the run."""
    node = compose_option("sampler", "fitted").copy()
    node.steps = calls
    fill_in_grid(node, run.run)
    return cast(Sampler, instantiate(node))


def _fitted(run: OpenedRun, calls: int) -> dict[str, Sampler]:
    return {"ccdiff fitted": kept_in(run, calls)}


def _judge(
    run: OpenedRun, cache: str, *, images: int, batch: int = 100
) -> Callable[[Draws], Reading]:
    """Gives the distance of the classifier's features to those of held-out images."""
    judged = judged_of(run.data_set(), cache=Path(cache))
    y = asked_labels(judged.heldout, n=images, num_labels=judged.num_labels)
    eps = torch.randn((images, *run.image_shape), generator=torch.Generator().manual_seed(1))

    def distance(draw: Draws) -> Reading:
        parts = zip(eps.split(batch), y.split(batch), strict=True)
        drawn = [draw(noise, bind_label(run.denoiser, label)) for noise, label in parts]
        found = judged.judge.readings(to_uint8(torch.cat(drawn)), y, judged.against)
        return found[judged.judge.distance_name]

    return distance


def compare(run: OpenedRun, args: argparse.Namespace) -> None:
    """Prints the tables of a run, by what :func:`main` was asked."""
    _, heldout = run.data_set().load()
    y = heldout.labels[: args.images]
    shape = (args.images, *run.image_shape)
    eps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    denoise, schedule = bind_label(run.denoiser, y), run.denoiser.schedule
    exact = fine_solution(denoise, schedule, eps, steps=args.fine)
    fit = partial(_fitted, run) if args.fitted else None
    ways = {
        calls: compared(
            *(denoise, schedule, eps, exact),
            calls=calls,
            fitted=fit if calls in args.calls else None,
        )
        for calls in {*args.calls, *(2 * calls for calls in args.calls if args.judge)}
    }
    for calls in args.calls:
        print(f"\n{run.run.path}, {calls} calls, {args.images} images\n")
        print(table(ways[calls]), flush=True)
    if args.judge is None:
        return
    distance = _judge(run, args.judge, images=args.judged)
    for calls in args.calls:
        ours = [w for w in ways[calls] if w.name in ("ccdiff fitted", "ccdiff UniPC")]
        theirs = [w for n in (calls, 2 * calls) for w in nearest_of_diffusers(ways[n], 2)]
        print(f"\n{run.run.path}, {calls} calls and twice as many, {args.judged} images\n")
        print(judged_table([*ours, *theirs], distance), flush=True)


def main() -> None:
    """Compares on each run that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="run directories")
    parser.add_argument("--calls", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--fine", type=int, default=200, help="steps of the fine solution")
    parser.add_argument("--fitted", action="store_true", help="coefficients kept in the run, too")
    parser.add_argument("--judge", help="folder of the classifier that measures distances")
    parser.add_argument("--judged", type=int, default=500, help="images for a distance")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # Those of diffusers: it hands tensors to numpy, and log 0.
    for path in args.runs:
        asked = {"run": path, "weights": "ema", "device": "cpu", "precision": "fp32"}
        compare(open_run(OmegaConf.create(asked)), args)


if __name__ == "__main__":
    main()
