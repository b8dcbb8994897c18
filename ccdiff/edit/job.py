"""One job of ``python -m ccdiff.edit``: what is given, the task, the files."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from ccdiff.config.build import instantiate
from ccdiff.data import Split, in_plane, to_float
from ccdiff.data.files.decode import BadImage, PixelSettings, decode, read_file
from ccdiff.diffusion.couplings import Coupling
from ccdiff.diffusion.denoiser import Denoise
from ccdiff.diffusion.samplers import Sampler
from ccdiff.diffusion.schedules import Schedule
from ccdiff.edit.tasks import Given, Pictures, Task
from ccdiff.errors import UserError
from ccdiff.generation.labels import Labels, label_title, parse_labels
from ccdiff.pictures import grid, save_gif, save_png
from ccdiff.runs.folder import refuse_filled
from ccdiff.system.atomic import write_whole
from ccdiff.trained.doubts import coupling_of, tell_doubts
from ccdiff.trained.run import OpenedRun, new_folder, open_run

__all__ = ["run_edit"]

log = logging.getLogger(__name__)


def run_edit(cfg: DictConfig) -> Path:
    """Does the task that ``cfg`` describes.

    Returns:
        The folder that holds ``grid.png``, ``images.npz`` with ``images`` (uint8 [N, H, W, C]) and
        what else the task keeps, ``config.yaml``, and ``film.gif`` where rows are movements.

    Raises:
        UserError: Where the run, an image, a label or the folder will not do.
    """
    refuse_filled(cfg.out)
    if cfg.task is None:
        raise UserError("which task? pass task=strip, invert, interpolate, inpaint or img2img")
    task: Task = instantiate(cfg.task)
    trained = open_run(cfg)
    if in_plane(trained.image_shape):
        raise UserError(
            f"run={cfg.run} draws points of the plane, and edits are of images: "
            f"python -m ccdiff.inspect part=field run={cfg.run} shows their paths from noise"
        )
    guidance, threshold = instantiate(cfg.guidance), instantiate(cfg.threshold)
    schedule = instantiate(cfg.schedule) if cfg.schedule else trained.denoiser.schedule

    def denoise(y: Tensor, drop: Tensor | None) -> Denoise:
        return threshold(guidance(trained.denoiser, y, drop))

    sampler: Sampler = instantiate(cfg.sampler)
    _tell_doubts(task, sampler, schedule, coupling_of(trained.config))
    x0, labels = _read(cfg, trained)
    with torch.no_grad(), tqdm(unit="step", disable=None) as bar:
        pictures = task(
            Given(
                sampler=sampler,
                schedule=schedule,
                denoise=denoise,
                x0=x0,
                labels=labels,
                image_shape=trained.image_shape,
                seed=cfg.seed,
                read_mask=lambda path: _image(path, trained, channels=1),
                on_step=lambda i, x, x0_hat: bar.update() and None,
            )
        )
    # Made last, so that a request that is refused leaves no folder.
    out = new_folder(cfg.out, trained.run.path / "edited", cfg)
    _write(pictures, out)
    log.info("the pictures are in %s", out)
    return out


def _tell_doubts(task: Task, sampler: Sampler, schedule: Schedule, coupling: Coupling) -> None:
    tell_doubts(sampler, schedule, coupling)
    if coupling.looks and task.adds_noise:
        log.warning(
            "this task mixes images with any noise, and the model has learned, by coupling=%s, "
            "from images with noises that are near: what comes out may not go with the image",
            type(coupling).__name__.lower(),
        )


def _listed(value: Any) -> Any:
    """Plain values of a config node; anything but a list becomes a list of one."""
    value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return value if value is None or isinstance(value, list) else [value]


def _read(cfg: DictConfig, trained: OpenedRun) -> tuple[Tensor | None, Labels]:
    """The images and labels asked for, as many of each, on the device."""
    wanted, request = _listed(cfg.images), _listed(cfg.labels)
    conditioning, device = trained.denoiser.conditioning, trained.device
    if wanted is None:
        return None, _to(parse_labels(request, conditioning), device)
    if not wanted:
        raise UserError("images=[] names none: pass images=[my.png] or images=[0,1]")
    numbers = [item for item in wanted if isinstance(item, int)]
    heldout = trained.data_set(root=cfg.data.root).load()[1] if numbers else None
    images = [_pick(item, heldout, trained) for item in wanted]
    if request is not None:
        labels = parse_labels(request, conditioning)
    elif heldout is not None and len(numbers) == len(wanted):
        labels = _labels_of(heldout.labels[numbers].cpu(), conditioning.label_names)
    else:
        raise UserError(
            "image files do not say what they show: pass labels=[...], one for all of the images "
            "or one for each"
        )
    x0, labels = _pair(to_float(torch.stack(images)), labels)
    return x0.to(device), _to(labels, device)


def _pick(item: Any, heldout: Split | None, trained: OpenedRun) -> Tensor:
    """One image, uint8 [C, H, W]."""
    if heldout is None or not isinstance(item, int):
        return _image(Path(str(item)).expanduser(), trained, channels=trained.image_shape[0])
    if not 0 <= item < len(heldout):
        raise UserError(f"images={item}: held-out images are numbered 0..{len(heldout) - 1}")
    return heldout.images[item].cpu()


def _image(path: Path, trained: OpenedRun, *, channels: int) -> Tensor:
    """An image file cropped and resized to what the model draws, uint8 [channels, H, W]."""
    settings = PixelSettings(
        image_size=trained.image_shape[1:], channels=channels, background=(255, 255, 255)
    )
    try:
        path = path.resolve()
        pixels, _ = decode(read_file(path.parent, path.name), settings)
    except BadImage as error:
        raise UserError(f"{path}: {error}") from error
    return torch.from_numpy(pixels.copy())


def _labels_of(y: Tensor, names: Sequence[str]) -> Labels:
    """The labels of held-out images, with titles."""
    return Labels(y, None, [label_title(row, names) for row in y])


def _pair(x0: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    """As many labels as images, where there is one of either."""
    n, m = len(x0), len(labels.titles)
    if n != m and 1 not in (n, m):
        raise UserError(f"{m} labels for {n} images: pass one for all of them, or one for each")
    if n == m:
        return x0, labels
    drop = None if labels.drop is None else labels.drop.repeat(n, *[1] * (labels.drop.ndim - 1))
    if m == 1:
        y = labels.y.repeat(n, *[1] * (labels.y.ndim - 1))
        return x0, Labels(y, drop, labels.titles * n)
    return x0.repeat(m, 1, 1, 1), labels


def _to(labels: Labels, device: torch.device) -> Labels:
    drop = None if labels.drop is None else labels.drop.to(device)
    return Labels(labels.y.to(device), drop, labels.titles)


def _write(pictures: Pictures, out: Path) -> None:
    columns, titles = pictures.columns, pictures.titles
    save_png(grid(pictures.images, columns=columns, titles=titles), out / "grid.png")
    if pictures.film:
        frames = [
            grid(pictures.images[i::columns], columns=1, titles=titles) for i in range(columns)
        ]
        save_gif(frames, out / "film.gif")
    arrays: dict[str, Any] = {name: array.numpy() for name, array in pictures.extra.items()}
    images = pictures.images.permute(0, 2, 3, 1).contiguous().numpy()
    # Last and at once: where images.npz is, everything else is too.
    write_whole(
        out / "images.npz", lambda file: np.savez_compressed(file, images=images, **arrays)
    )
