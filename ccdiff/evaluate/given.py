"""Judges pictures that others made against a data set, without a run.

They come as evaluators of the field pass them on: an ``.npz`` with ``arr_0`` (or ``images``),
uint8 [N, H, W, C], and ``arr_1`` (or ``labels``); or a folder that has a folder of image files for
each label.
"""

import json
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from ccdiff.config.build import build_data, instantiate
from ccdiff.data import DataSet, in_plane
from ccdiff.errors import UserError
from ccdiff.evaluate.page import write_page
from ccdiff.evaluate.report import (
    Report,
    class_distances_of,
    real_agreement,
    real_images,
    sample_figures,
)
from ccdiff.metrics.extractors import Material
from ccdiff.metrics.figures import Provenance
from ccdiff.metrics.judge import Judge
from ccdiff.runs.folder import output_folder, refuse_filled
from ccdiff.system.atomic import write_text
from ccdiff.system.device import pick_device

__all__ = ["read_samples", "run_judging"]

log = logging.getLogger(__name__)

_FEWEST = 20
_AT_A_TIME = 256
_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True)
class _Held:
    """Samples that are in memory, as the page asks for them."""

    numbers: range
    held: Tensor

    def images(self) -> Tensor:
        return self.held


def run_judging(cfg: DictConfig) -> Path:
    """Judges the samples that ``cfg`` names against its data set.

    Returns:
        The folder that holds ``metrics.json`` and ``index.html``.

    Raises:
        UserError: Where the samples are none, or not of the data set's kind.
    """
    refuse_filled(cfg.out)
    source = instantiate(cfg.extractor)
    source.check()
    data = build_data(cfg)
    images, labels = read_samples(Path(cfg.samples).expanduser(), data)
    if len(images) < _FEWEST:
        raise UserError(
            f"samples={cfg.samples} has {len(images)} images: {_FEWEST} or more say something"
        )
    train, heldout = data.load()
    y = _labels_like(train.labels, labels, cfg.samples, num_labels=len(data.names))
    material = Material.of(data, train, heldout, cache=cfg.cache, device=pick_device(cfg.device))
    judge = Judge.open(source, material)
    fingerprints = {"train": train.whole_fingerprint(), "heldout": heldout.whole_fingerprint()}
    real = real_images(material, judge, fingerprints)
    parts = [slice(i, i + _AT_A_TIME) for i in range(0, len(images), _AT_A_TIME)]
    judged = judge.judged((judge.look(images[part]), y[part]) for part in parts)
    figures, near = sample_figures(
        judged,
        real=real,
        real_agreement=real_agreement(heldout, judge, len(images)),
        judge=judge,
        base=Provenance(n=len(images), resolution=" x ".join(map(str, images.shape[1:]))),
    )
    extractor = f"{judge.extractor.name} ({judge.extractor.fingerprint})"
    accuracy = judge.classifier.classifier.heldout_accuracy
    report = Report(
        title=f"{cfg.samples}, against {cfg.data._target_.rpartition('.')[2]}",
        facts={
            "samples": f"{Path(cfg.samples).absolute()}, {len(images)} images",
            "data": f"{cfg.data._target_.rpartition('.')[2]}, {len(train)} images to train on, "
            f"{len(heldout)} held out",
            "extractor": extractor,
            "classifier": f"finds {accuracy:.2%} of held-out labels",
        },
        figures=figures,
        label_names=data.names,
        y=y,
        judged=judged,
        class_distances=class_distances_of(judged, real["train"], num_classes=len(data.names)),
        near=near,
    )
    folder = output_folder(cfg.out, Path("evaluation"))
    write_text(folder / "metrics.json", json.dumps(report.plain(), indent=1))
    write_page(report, [_Held(range(len(images)), images)], train, [], None, folder)
    for figure in report.figures:
        log.info("%s", figure)
    log.info("the page is %s", folder / "index.html")
    return folder


def read_samples(path: Path, data: DataSet) -> tuple[Tensor, np.ndarray]:
    """Samples and what they were asked for.

    Arguments:
        path: An ``.npz``, or a folder, with a ``samples.npz`` or with a folder for each label.
        data: What they are samples of.

    Returns:
        Images uint8 [N, C, H, W], or points float32 [N, 2, 1, 1], and labels as they were found.

    Raises:
        UserError: Where there are none, or size or channels are not those of the data.
    """
    if path.is_dir():
        inside = path / "samples.npz"
        images, labels = _from_npz(inside) if inside.exists() else _from_folders(path, data)
    elif path.is_file():
        images, labels = _from_npz(path)
    else:
        raise UserError(f"samples={path}: there is no such file or folder")
    if in_plane(data.image_shape):
        return _points(images, path), labels
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or images.ndim != 4:
        raise UserError(
            f"samples={path} holds {images.dtype} {list(images.shape)}: images are uint8 "
            f"[N, H, W, C]"
        )
    found, wanted = images.shape[3:] + images.shape[1:3], data.image_shape
    if found != wanted:
        raise UserError(
            f"samples={path} holds images of {' x '.join(map(str, found))} (C x H x W), and the "
            f"data set has {' x '.join(map(str, wanted))}: pass the data set that they are of"
        )
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels


def _points(found: np.ndarray, path: Path) -> Tensor:
    if not np.issubdtype(found.dtype, np.floating) or found.shape[1:] != (2,):
        raise UserError(
            f"samples={path} holds {found.dtype} {list(found.shape)}, and the data are points of "
            f"the plane: real numbers [N, 2]"
        )
    if not np.isfinite(found).all():
        raise UserError(f"samples={path} holds numbers that are not finite")
    return torch.from_numpy(found.astype(np.float32)).reshape(-1, 2, 1, 1)


def _from_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        # Never objects: reading those runs code of whoever wrote the file.
        with np.load(path, allow_pickle=False) as file:
            arrays = {
                name: next((file[key] for key in keys if key in file), None)
                for name, keys in (
                    ("images", ("arr_0", "images", "points")),
                    ("labels", ("arr_1", "labels")),
                )
            }
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"samples={path} is no .npz of arrays ({error})") from error
    images, labels = arrays["images"], arrays["labels"]
    if images is None:
        raise UserError(f"samples={path} has neither arr_0 nor images")
    if labels is None or len(labels) != len(images):
        raise UserError(
            f"samples={path} has no label for each image: add them as arr_1 (or labels), [N] "
            f"class numbers, or [N, K] attributes"
        )
    return images, labels


def _from_folders(path: Path, data: DataSet) -> tuple[np.ndarray, np.ndarray]:
    """Image files in folders, each of which is called as a class of the data set."""
    if in_plane(data.image_shape):
        raise UserError(f"samples={path} has no samples.npz, which points of the plane come in")
    mode, shape = ("L" if data.image_shape[0] == 1 else "RGB"), None
    images, labels = [], []
    for k, name in enumerate(data.names):
        files = sorted(f for f in (path / name).glob("*") if f.suffix.lower() in _ENDINGS)
        for file in files:
            try:
                with Image.open(file) as picture:
                    pixels = np.asarray(picture.convert(mode))
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                raise UserError(f"{file} cannot be read as an image ({error})") from error
            shape = shape or pixels.shape
            if pixels.shape != shape:
                raise UserError(f"{file} is {pixels.shape[1]} x {pixels.shape[0]}, others are not")
            images.append(pixels)
            labels.append(k)
    if not images:
        raise UserError(
            f"samples={path} has no images: it takes a folder for each label, called "
            f"{', '.join(data.names[:4])}{', ...' if len(data.names) > 4 else ''}, or samples.npz"
        )
    return np.stack(images), np.array(labels)


def _labels_like(like: Tensor, labels: np.ndarray, path: str, *, num_labels: int) -> Tensor:
    """Labels of the data set's kind.

    Class numbers int64 [N], attributes uint8 [N, K], or real numbers float32 [N, K].
    """
    if like.is_floating_point():
        real = np.issubdtype(labels.dtype, np.number) and labels.shape == (len(labels), num_labels)
        if not real or np.isinf(labels).any():
            raise UserError(
                f"samples={path}: labels are real numbers [{len(labels)}, {num_labels}], NaN "
                f"where one was left open, got {labels.dtype} {list(labels.shape)}"
            )
        return torch.from_numpy(labels.astype(np.float32))
    many = like.ndim == 2
    shape = [len(labels), num_labels] if many else [len(labels)]
    whole = np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool
    most = 1 if many else num_labels - 1
    if not whole or list(labels.shape) != shape or labels.min() < 0 or labels.max() > most:
        found = f"{labels.dtype} {list(labels.shape)}"
        if whole and labels.size:
            found += f" from {labels.min()} to {labels.max()}"
        raise UserError(
            f"samples={path}: labels are whole numbers {shape} from 0 to {most}, got {found}"
        )
    return torch.from_numpy(labels.astype(np.uint8 if many else np.int64))
