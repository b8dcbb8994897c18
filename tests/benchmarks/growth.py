"""How the time of a step grows with the batch, the size of images and the width of the network.

``uv run python -m tests.benchmarks.growth <folder>`` varies one of the three at a time, fits
``t = a + b x^p`` to each, and ``t = a + b GFLOPs`` to all together, with R^2 of the logarithms,
and draws ``growth.png`` in the folder. What does not grow is ``a``: the cost of a step as such.
"""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from tests.benchmarks.kit import Case, interleave, machine
from tests.benchmarks.ours import NOISE, assembled, bare_step

BASE = {"batch": 32.0, "pixels": 32.0, "width": 1.0}
LINES = {
    "batch": (8, 16, 32, 64, 128),
    "pixels": (16, 24, 32, 48, 64),
    "width": (0.5, 1, 1.5, 2),
}
LABELS = {"batch": "images per batch", "pixels": "pixels per side", "width": "channels, relative"}
TICKS = tuple(m * 10.0**n for n in range(-4, 6) for m in (1, 2, 5))
POWERS = np.linspace(0.25, 4, 376)


@dataclass(frozen=True)
class Fit:
    """``t = a + b x^p``, and how much of the variance of log t it explains."""

    a: float
    b: float
    p: float
    r2: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.a + self.b * x**self.p


def fit(x: np.ndarray, t: np.ndarray, powers: np.ndarray = POWERS) -> Fit:
    """The least squares of relative errors with ``a`` and ``b`` not negative, over all powers.

    Arguments:
        x: Positive [N].
        t: Positive [N].
        powers: Those to choose from.
    """
    found = []
    for p in powers:
        # With a cost of the step as such, and without, where that would be negative.
        for constant in (1.0, 0.0):
            columns = np.stack([np.full_like(x, constant), x**p], 1) / t[:, None]
            (a, b), *_ = np.linalg.lstsq(columns, np.ones_like(t), rcond=None)
            if a >= 0 and b >= 0:
                found.append((np.square(columns @ (a, b) - 1).sum(), a, b, p))
    _, a, b, p = min(found)
    logs, fitted = np.log(t), np.log(a + b * x**p)
    spread = np.square(logs - logs.mean()).sum()
    return Fit(a, b, p, 1 - np.square(logs - fitted).sum() / spread)


def settings(point: dict[str, float]) -> list[str]:
    """A point of the grid as overrides of the config."""
    width = point["width"]
    channels = [round(width * c) for c in (32, 64)]
    return [
        *NOISE,
        f"trainer.batch_size={round(point['batch'])}",
        f"data.image_size={round(point['pixels'])}",
        f"model.channels={channels}",
        f"model.bottleneck={round(width * 128)}",
        "model.head_channels=32",
    ]


def points(lines: dict[str, tuple[float, ...]]) -> dict[tuple[float, ...], dict[str, float]]:
    """Every point of the lines once; the lines cross at the base."""
    all_points = [{**BASE, axis: float(x)} for axis, xs in lines.items() for x in xs]
    return {tuple(point.values()): point for point in all_points}


def measured(
    lines: dict[str, tuple[float, ...]], *, rounds: int, overrides: list[str]
) -> tuple[dict[tuple[float, ...], float], dict[tuple[float, ...], float]]:
    """Seconds and GFLOPs of a step at each point."""
    cases, gflops = {}, {}
    for key, point in points(lines).items():
        training = assembled(*settings(point), *overrides)
        gflops[key] = training.speed.flops_per_image * point["batch"] / 1e9
        cases[str(key)] = Case(run=bare_step(training), images=round(point["batch"]))
    taken = interleave(cases, rounds=rounds, warmup=1)
    return {key: median(taken[str(key)]) for key in gflops}, gflops


def draw(lines: dict, seconds: dict, gflops: dict, fits: dict[str, Fit], path: Path) -> None:
    """A panel per line and one for all, times over what grows, with the fits."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure = Figure(figsize=(14, 3.6), layout="constrained")
    panels = figure.subplots(1, len(lines) + 1, sharey=True)
    for axes, (name, found) in zip(panels, fits.items(), strict=True):
        x, t = series(name, lines, seconds, gflops)
        dense = np.geomspace(x.min(), x.max(), 99)
        axes.loglog(x, t, "o", color="#2a6fbb")
        axes.loglog(dense, found(dense), color="#c0504d")
        for axis, ticks in ((axes.xaxis, LINES.get(name, TICKS)), (axes.yaxis, TICKS)):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
        axes.set_xlabel(LABELS.get(name, "GFLOPs per step"))
        axes.set_title(f"{found.a:.3g} + {found.b:.3g} x^{found.p:.2f}, R² {found.r2:.4f}")
        axes.grid(visible=True, alpha=0.25)
    panels[0].set_ylabel("seconds per step")
    figure.savefig(path, dpi=110)


def series(name: str, lines: dict, seconds: dict, gflops: dict) -> tuple[np.ndarray, np.ndarray]:
    """What varies along a line, or GFLOPs for all of them, and the seconds there."""
    if name not in lines:
        return np.array([gflops[key] for key in seconds]), np.array(list(seconds.values()))
    keys = [tuple({**BASE, name: float(x)}.values()) for x in lines[name]]
    return np.array(lines[name], float), np.array([seconds[key] for key in keys])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="of ccdiff's config, as for train.py")
    args = parser.parse_intermixed_args()
    logging.disable(logging.WARNING)
    args.folder.mkdir(parents=True, exist_ok=True)
    seconds, gflops = measured(LINES, rounds=args.rounds, overrides=args.overrides)
    print(f"{machine()}\n\n| batch | pixels | width | GFLOPs | ms per step | GFLOP/s |")
    print("|---|---|---|---|---|---|")
    for key, t in seconds.items():
        cells = [f"{value:g}" for value in key]
        cells += [f"{gflops[key]:.1f}", f"{1e3 * t:.1f}", f"{gflops[key] / t:.0f}"]
        print(f"| {' | '.join(cells)} |")
    fits = {name: fit(*series(name, LINES, seconds, gflops)) for name in LINES}
    fits["GFLOPs"] = fit(*series("GFLOPs", LINES, seconds, gflops), powers=np.ones(1))
    print("\n| over | seconds per step | R² |\n|---|---|---|")
    for name, found in fits.items():
        print(f"| {name} | {found.a:.3g} + {found.b:.3g} x^{found.p:.2f} | {found.r2:.4f} |")
    draw(LINES, seconds, gflops, fits, args.folder / "growth.png")


if __name__ == "__main__":
    main()
