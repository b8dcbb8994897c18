"""What a model has learned of points of the plane, beside what is exact: fields and paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ccdiff.config.build import build_data
from ccdiff.diffusion.conditioning import label_index
from ccdiff.diffusion.denoiser import Denoise, bind_label
from ccdiff.diffusion.levels import Reach
from ccdiff.diffusion.oracle import LabelledOracle
from ccdiff.diffusion.samplers import Heun, SampleNoise, sample
from ccdiff.errors import UserError
from ccdiff.pages.figures import COLOURS, figure_of, save_figure
from ccdiff.trained.model import Model, load_model

__all__ = ["Field", "learned_field", "plot_field"]

_LOG_SNR = (-3.0, 0.0, 3.0)
_SIDE = 21
_HALF_WIDTH, _OF_PATHS = 1.25, 2.0
"""What fields and paths show of the plane, from the origin."""
_PATHS = 64
_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class Field:
    """Where a model and the exact denoiser pull noisy points, and the paths that follow.

    Arguments:
        title: Of the picture.
        places: ``x_t / alpha`` where the pull is taken, [N, 2].
        pulls: ``x0_hat - x_t / alpha`` of model and exact denoiser at each of three noise levels,
            each [N, 2]: minus the derivative of ``x_t / alpha`` by ``log(sigma / alpha)`` on the
            ODE that deterministic samplers solve.
        paths: ``x_t / std`` of model and exact denoiser from the same noise, each [S, P, 2].
        labels: Of the paths, [P].
        differences: Root mean squares of what is between the two.
    """

    title: str
    places: Tensor
    pulls: Sequence[tuple[Tensor, Tensor]]
    paths: tuple[Tensor, Tensor]
    labels: Tensor
    differences: dict[str, float]


def learned_field(run: str | None, label: str | None) -> Field:
    """What the run has learned.

    Arguments:
        run: A run directory, a checkpoint file, or ``latest``.
        label: A class; None is none where labels were hidden in training, else the first.

    Raises:
        UserError: Where there is no such run or class, or nothing exact is known of its data.
    """
    if run is None:
        raise UserError(
            "part=field shows what was learned: pass run=<run directory> or run=latest"
        )
    model = load_model(run, device="cpu")
    if Reach.HERE not in model.denoiser.reaches:
        raise UserError(f"part=field: run={run} learned steps, and no field at each noise level")
    exact = _exact(model)
    names, hidden = model.label_names, False
    if label is None:
        hidden = model.denoiser.conditioning.drop > 0
        k = 0
    else:
        k = label_index(label, names)
    with torch.no_grad():
        return _compared(model, exact, k, hidden=hidden)


def _exact(model: Model) -> LabelledOracle:
    """The exact denoiser of a model's data."""
    exact = build_data(model.config).exact
    if exact is None:
        name = str(model.config.data._target_).rpartition(".")[2]
        raise UserError(
            f"part=field compares with an exact denoiser, which is known of data=gaussians, rings "
            f"and moons; the run was trained on {name}"
        )
    return exact


def _compared(model: Model, exact: LabelledOracle, k: int, *, hidden: bool) -> Field:
    schedule = model.denoiser.schedule
    axis = torch.linspace(-_HALF_WIDTH, _HALF_WIDTH, _SIDE)
    places = torch.cartesian_prod(axis, axis)
    y = torch.full((len(places),), k)
    drop = torch.full((len(places),), hidden)
    pulls, differences = [], {}
    for log_snr in _LOG_SNR:
        level = schedule.at_log_snr(torch.tensor(log_snr, dtype=torch.float64))
        x_t = (level.alpha * places).float().reshape(-1, 2, 1, 1)
        ours, theirs = (
            denoiser(x_t, level, y, drop).flatten(1) - places
            for denoiser in (model.denoiser, exact)
        )
        pulls.append((ours, theirs))
        differences[f"field at log-SNR {log_snr:g}, RMS difference"] = _rms(ours - theirs)
        differences[f"field at log-SNR {log_snr:g}, RMS of the exact one"] = _rms(theirs)
    labels = torch.arange(_PATHS) % len(model.label_names)
    learned, true = (
        _paths(denoise, model)
        for denoise in (
            bind_label(model.denoiser, labels),
            exact.bound(labels, like=torch.zeros(0)),
        )
    )
    differences["ends of paths from the same noise, RMS difference"] = _rms(learned[-1] - true[-1])
    what = "no label told" if hidden else f"label {model.label_names[k]}"
    return Field(
        title=f"{model!r}"[1:-1] + f"; {what}",
        places=places,
        pulls=pulls,
        paths=(learned, true),
        labels=labels,
        differences=differences,
    )


def _rms(difference: Tensor) -> float:
    """Root mean square of the length of vectors [N, 2]."""
    return difference.square().sum(1).mean().sqrt().item()


def _paths(denoise: Denoise, model: Model) -> Tensor:
    """``x_t / std`` on the way from noise to points, under the run's threshold, [S, P, 2]."""
    schedule, sampler = model.denoiser.schedule, Heun(steps=_STEPS)
    std = schedule.at(sampler.times(schedule)).std
    noise = SampleNoise(range(_PATHS))
    seen: list[Tensor] = []

    def look(i: int, x: Tensor, x0_hat: Tensor) -> None:
        seen.append(x.flatten(1) / std[i].float())

    within = model.pipeline.threshold(denoise)
    sample(sampler, within, schedule, (_PATHS, 2, 1, 1), noise, on_step=look)
    return torch.stack(seen)


def plot_field(field: Field, path: Path) -> None:
    """Draws the fields, learned above exact, and at the right the paths.

    Arrows are all of one length; the darker, the stronger the pull.
    """
    from matplotlib.colors import PowerNorm

    figure = figure_of(14, 7.4)
    rows = figure.subplots(2, len(_LOG_SNR) + 1)
    for i, (row, name) in enumerate(zip(rows, ("learned", "exact"), strict=True)):
        for axes, pulls, log_snr in zip(row, field.pulls, _LOG_SNR, strict=False):
            length = pulls[i].norm(dim=1)
            longest = torch.cat(pulls).norm(dim=1).max().item()
            axes.quiver(
                *field.places.T,
                *(pulls[i] / length.clamp(min=1e-9).unsqueeze(1)).T,
                length,
                cmap="viridis_r",
                norm=PowerNorm(0.5, 0, longest),
                scale=1.2 * _SIDE,
                pivot="mid",
                width=0.005,
            )
            told = field.differences[f"field at log-SNR {log_snr:g}, RMS difference"]
            whole = field.differences[f"field at log-SNR {log_snr:g}, RMS of the exact one"]
            note = "" if i else f"\nRMS difference {told:.3f} of {whole:.3f}"
            axes.set_title(f"{name}, log-SNR {log_snr:g}{note}", fontsize=10)
        axes = row[-1]
        for k in field.labels.unique().tolist():
            of_class = field.paths[i][:, field.labels == k]
            axes.plot(
                *of_class.permute(2, 0, 1),
                color=COLOURS[k % len(COLOURS)],
                linewidth=0.7,
                alpha=0.7,
            )
            axes.plot(*of_class[-1].T, "o", color=COLOURS[k % len(COLOURS)], markersize=3)
        told = field.differences["ends of paths from the same noise, RMS difference"]
        note = "" if i else f"\nRMS difference of the ends {told:.3f}"
        axes.set_title(f"{name}: paths from noise, by label{note}", fontsize=10)
    for i, axes in enumerate(rows.flat):
        half = _OF_PATHS if (i + 1) % rows.shape[1] == 0 else _HALF_WIDTH
        axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(field.title, fontsize=11)
    save_figure(figure, path)
