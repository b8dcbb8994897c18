"""What guidance does to a distribution, without any error of a network or a sampler.

``python -m tests.documentation.guidance_oracle docs/images/guidance.svg`` draws the picture of the
page on sampling and prints its table. Two classes are Gaussians of one dimension, so the exact
denoiser of each, and of both together, is known; they are guided and sampled by the classes that
guide and sample a trained model. Samples start at evenly spaced quantiles of the noise: what comes
out are the quantiles of the result, and nothing is left to chance.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ccdiff.diffusion.conditioning import OneHot
from ccdiff.diffusion.guidance import CFG
from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.oracle import GaussianOracle
from ccdiff.diffusion.samplers import Heun, sample
from ccdiff.diffusion.samplers.grids import LogSNR
from ccdiff.diffusion.samplers.noise import GivenNoise
from ccdiff.diffusion.schedules import Cosine

NUM = 2001
STEPS = 100
SCALES = (1.0, 1.5, 3.0)
_INK, _COLOURS = "#808080", ("#3f88c5", "#7a9e4f", "#d1603d")


@dataclass(frozen=True, kw_only=True)
class TwoClasses:
    """Two equally frequent Gaussian classes with their exact denoiser, called as a model is.

    Arguments:
        title: What they are.
        means: Of both.
        stds: Of both.
    """

    title: str
    means: tuple[float, float]
    stds: tuple[float, float]
    # All that guidance asks of a model besides: has it seen hidden labels?
    conditioning: Any = field(
        default_factory=lambda: OneHot(["one", "other"], dim=1, drop=0.1), compare=False
    )

    def __call__(self, x_t: Tensor, level: Level, y: Tensor, drop: Tensor | None) -> Tensor:
        """``x0_hat`` [B, 1] given the class, or given none where ``drop`` is true."""
        alpha, sigma = level.scales_like(x_t)
        estimates, log_odds = [], []
        for mean, std in zip(self.means, self.stds, strict=True):
            oracle = GaussianOracle(mean=torch.tensor(mean), std=torch.tensor(std))
            variance = alpha**2 * std**2 + sigma**2
            estimates.append(oracle(x_t, level))
            log_odds.append(-((x_t - alpha * mean) ** 2) / variance / 2 - variance.log() / 2)
        of_class = torch.stack(estimates)[y, torch.arange(len(y))]
        shares = torch.stack(log_odds).softmax(0)
        of_both = (shares * torch.stack(estimates)).sum(0)
        return of_class if drop is None else torch.where(drop[:, None], of_both, of_class)


CASES = (
    TwoClasses(title="two classes of equal width", means=(0.5, -0.5), stds=(0.35, 0.35)),
    TwoClasses(title="a narrow class and a wide one", means=(0.0, 0.0), stds=(0.2, 0.6)),
)


class Outcome(NamedTuple):
    """What a class becomes.

    Arguments:
        scale: Of guidance.
        quantiles: Of its samples, evenly spaced, [NUM].
        mean: Of its samples.
        std: Of its samples.
    """

    scale: float
    quantiles: Tensor
    mean: float
    std: float


def outcome(classes: TwoClasses, k: int, scale: float) -> Outcome:
    """Samples class ``k`` with classifier-free guidance of a ``scale``."""
    shares = (torch.arange(NUM, dtype=torch.float64) + 0.5) / NUM
    noise = torch.special.ndtri(shares)[:, None]
    guided = CFG(scale=scale)(classes, torch.full((NUM,), k))  # type: ignore[arg-type]
    x = sample(
        Heun(steps=STEPS, grid=LogSNR()), guided, Cosine(), noise.shape, GivenNoise(noise)
    ).squeeze(1)
    return Outcome(scale, x.sort().values, x.mean().item(), x.std(correction=0).item())


def table(cases: Sequence[TwoClasses]) -> str:
    """Markdown: mean and spread of each class at each scale, beside those of the class itself."""
    lines = [
        "| classes | class | guidance | mean | std | std over that of the class |",
        "|---|---|---|---|---|---|",
    ]
    for classes in cases:
        for k, (mean, std) in enumerate(zip(classes.means, classes.stds, strict=True)):
            if k and classes.stds[0] == classes.stds[1]:
                continue  # The mirror image of the first.
            for found in (outcome(classes, k, scale) for scale in SCALES):
                middle = round(found.mean, 2) + 0.0  # No minus before a zero.
                lines.append(
                    f"| {classes.title} | N({mean:g}, {std:g}²) | {found.scale:g} | "
                    f"{middle:.2f} | {found.std:.3f} | {found.std / std:.2f} |"
                )
    return "\n".join(lines)


def draw(cases: Sequence[TwoClasses], path: Path) -> None:
    """Densities of the samples, a panel for each pair; in colours that any background bears."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The same bytes at every call.
    with mpl.rc_context({"svg.hashsalt": "guidance", "text.color": _INK, "font.size": 9}):
        figure = Figure(figsize=(8, 3), layout="constrained", facecolor="none")
        panels = figure.subplots(1, len(cases), squeeze=False)[0]
        for axes, classes in zip(panels, cases, strict=True):
            for scale, colour in zip(SCALES, _COLOURS, strict=True):
                for k, style in ((0, "-"), (1, "--")):
                    found = outcome(classes, k, scale)
                    middles = (found.quantiles[10:] + found.quantiles[:-10]) / 2
                    density = 10 / NUM / (found.quantiles[10:] - found.quantiles[:-10])
                    label = f"guidance {scale:g}" if k == 0 else None
                    axes.plot(middles, density, style, color=colour, label=label, linewidth=1.5)
            axes.set_title(classes.title, color=_INK)
            axes.set(facecolor="none", yticks=[], xlim=(-2, 2), ylim=(0, None))
            axes.tick_params(colors=_INK)
            for side, spine in axes.spines.items():
                spine.set(color=_INK, visible=side == "bottom")
        panels[-1].legend(frameon=False, labelcolor=_INK, loc="upper left")
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    draw(CASES, Path(sys.argv[1]))
    print(table(CASES))


if __name__ == "__main__":
    main()
