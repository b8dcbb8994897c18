"""Pictures of schedules, of noise embeddings, and of what was learned of points of the plane."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from ccdiff.config.build import instantiate
from ccdiff.config.options import compose, compose_option
from ccdiff.data import to_float, to_uint8
from ccdiff.diffusion.schedules import Schedule
from ccdiff.diffusion.times import TimeDensity
from ccdiff.errors import UserError
from ccdiff.inspect.field import learned_field, plot_field
from ccdiff.nn.embedding import NoiseEmbedding
from ccdiff.pages.figures import COLOURS, STYLES, check_format, figure_of, save_figure
from ccdiff.pictures import grid, save_png
from ccdiff.runs.folder import output_folder, refuse_filled
from ccdiff.system.atomic import write_text
from ccdiff.trained.model import load_model

__all__ = ["betas", "run_picturing", "similarity"]

log = logging.getLogger(__name__)

PARTS = ("schedule", "embedding", "field")
_STEPS = 1000
_DRAWN = 100_000
_SHOWN = 11
_LEVELS = 121
_SPAN = 12.0


def run_picturing(cfg: DictConfig) -> Path:
    """Writes the pictures that are asked for.

    Returns:
        The folder: ``schedules.*``, ``noised.png`` and ``schedules.json``, or ``embedding.*``, or
        ``field.*`` and ``field.json``.

    Raises:
        UserError: Where there is no such part, schedule, density or format.
    """
    if cfg.part not in PARTS:
        raise UserError(f"part must be one of {', '.join(PARTS)}, got {cfg.part}")
    check_format(cfg.format)
    refuse_filled(cfg.out)
    if cfg.part == "field":
        field = learned_field(cfg.run, cfg.label)
        out = output_folder(cfg.out, Path("inspection"))
        plot_field(field, out / f"field.{cfg.format}")
        write_text(out / "field.json", json.dumps(field.differences, indent=1) + "\n")
        for key, value in field.differences.items():
            log.info("%s: %.3g", key, value)
    elif cfg.part == "embedding":
        levels = torch.linspace(-_SPAN, _SPAN, _LEVELS)
        width = compose("train").model.channels[0]
        embed = NoiseEmbedding(width, out_dim=width) if cfg.run is None else _trained(cfg.run)
        found = {"sinusoids alone": similarity(embed.sinusoids, levels)}
        if cfg.run is not None:
            found["as trained"] = similarity(embed, levels)
        out = output_folder(cfg.out, Path("inspection"))
        _plot_similarity(found, levels, out / f"embedding.{cfg.format}")
    else:
        if not cfg.schedules:
            raise UserError("schedule= names none: pass schedule=cosine,linear")
        schedules = {name: instantiate(compose_option("schedule", name)) for name in cfg.schedules}
        times = instantiate(compose_option("times", cfg.density, config="train"))
        image = _image()
        out = output_folder(cfg.out, Path("inspection"))
        _plot_schedules(schedules, times, cfg.density, out / f"schedules.{cfg.format}")
        save_png(_noised(schedules, image), out / "noised.png")
        write_text(out / "schedules.json", json.dumps(_table(schedules), indent=1) + "\n")
    log.info("pictures are in %s", out)
    return out


def betas(schedule: Schedule, steps: int = _STEPS) -> Tensor:
    """The noise increments that a chain of so many steps would have, float64 [steps].

    ``1 - alpha-bar_i / alpha-bar_{i-1}`` (Nichol & Dhariwal, 2021, arXiv:2102.09672, section 3.2),
    where alpha-bar is ``alpha^2`` of the variance-preserving schedule of equal log-SNR.
    """
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    alpha_bar = torch.sigmoid(schedule.at(t).log_snr)
    return 1 - alpha_bar[1:] / alpha_bar[:-1]


def similarity(embed: Callable[[Tensor], Tensor], log_snr: Tensor) -> Tensor:
    """Cosine similarity of the embeddings of all pairs of noise levels, [N, N] of [N]."""
    with torch.no_grad():
        unit = torch.nn.functional.normalize(embed(log_snr).double(), dim=1)
    return unit @ unit.T


def _trained(run: str) -> NoiseEmbedding:
    network = load_model(run, device="cpu").denoiser.network
    found = [m for m in network.modules() if isinstance(m, NoiseEmbedding)]
    if not found:
        raise UserError(f"run={run}: its network has no embedding of the noise level of ours")
    return found[0]


def _image() -> Tensor:
    """A digit to be noised, float [1, C, H, W]."""
    data = instantiate(compose("train").data)
    return to_float(data.load()[1].images[4:5])


def _noised(schedules: Mapping[str, Schedule], x0: Tensor) -> Any:
    """One image at equally spaced times, a row for each schedule, with the same noise."""
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0, 1, _SHOWN, dtype=torch.float64)
    rows = []
    for schedule in schedules.values():
        level = schedule.at(t)
        alpha, sigma = (u.float().reshape(-1, 1, 1, 1) for u in (level.alpha, level.sigma))
        # At the scale at which networks see it, so that no row is paler than others.
        rows.append((alpha * x0 + sigma * eps) / level.std.float().reshape(-1, 1, 1, 1))
    return grid(to_uint8(torch.cat(rows)), columns=_SHOWN, titles=list(schedules))


def _table(schedules: Mapping[str, Schedule]) -> dict[str, Any]:
    """Numbers behind the curves, at equally spaced times."""
    t = torch.linspace(0, 1, _SHOWN, dtype=torch.float64)
    return {
        name: {
            "t": t.tolist(),
            **{
                key: getattr(schedule.at(t), key).tolist() for key in ("alpha", "sigma", "log_snr")
            },
        }
        for name, schedule in schedules.items()
    }


def _plot_schedules(
    schedules: Mapping[str, Schedule], times: TimeDensity, density: str, path: Path
) -> None:
    figure = figure_of(9, 6)
    scales, log_snr, increments, seen = figure.subplots(2, 2).flat
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    drawn = times(_DRAWN, torch.Generator().manual_seed(0)).double()
    for i, (name, schedule) in enumerate(schedules.items()):
        look: dict[str, Any] = {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": STYLES[i % len(STYLES)],
            "linewidth": 1.6,
        }
        level = schedule.at(t)
        scales.plot(t, level.alpha, label=name, **look)
        scales.plot(t, level.sigma, **{**look, "linewidth": 0.8})
        log_snr.plot(t, level.log_snr, **look)
        increments.plot(torch.linspace(0, 1, _STEPS), betas(schedule).clamp(min=1e-6), **look)
        found = schedule.at(drawn).log_snr
        height, edges = torch.histogram(found, bins=60, density=True)
        seen.plot((edges[1:] + edges[:-1]) / 2, height, **look)
    scales.set(xlabel="time t: clean to noise", ylabel="alpha (bold), sigma (thin)")
    log_snr.set(xlabel="time t", ylabel="log-SNR")
    increments.set(xlabel="time t", ylabel=f"beta of {_STEPS} steps", yscale="log")
    seen.set(xlabel="log-SNR: noisy to clean", ylabel=f"density in training\n(times={density})")
    figure.legend(loc="outside upper center", ncols=len(schedules), frameon=False)
    for axes in (scales, log_snr, increments, seen):
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _plot_similarity(found: Mapping[str, Tensor], levels: Tensor, path: Path) -> None:
    figure = figure_of(4.4 * len(found) + 1, 4.2)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    span = [levels[0].item(), levels[-1].item()]
    for axes, (title, matrix) in zip(panels, found.items(), strict=True):
        picture = axes.imshow(
            matrix.numpy(), origin="lower", extent=[*span, *span], vmin=-1, vmax=1, cmap="cividis"
        )
        axes.set(xlabel="log-SNR", ylabel="log-SNR", title=title)
    figure.colorbar(picture, ax=list(panels), label="cosine similarity of noise embeddings")
    save_figure(figure, path)
