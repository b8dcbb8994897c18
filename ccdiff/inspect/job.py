"""What a data set holds: counts, a contact sheet, which attributes go together, duplicates."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from ccdiff.config.build import build_data
from ccdiff.data import DataSet, ImageFiles, Split, describe
from ccdiff.errors import UserError
from ccdiff.inspect.duplicates import look_alikes, same_pixels
from ccdiff.pictures import grid, save_png
from ccdiff.runs.folder import output_folder
from ccdiff.system.atomic import write_text

__all__ = ["co_occurrence", "run_inspection"]

_MAX_GROUPS_SHOWN = 30
_MAX_SHOWN_OF_GROUP = 8


def run_inspection(cfg: DictConfig) -> None:
    """Writes pictures and ``inspection.json`` to ``cfg.out``, and prints the counts.

    Raises:
        UserError: Where ``out`` holds something, or the sheet would have no columns.
    """
    if cfg.images_per_label < 1:
        raise UserError(f"images_per_label must be at least 1, got {cfg.images_per_label}")
    out = output_folder(cfg.out, Path("inspection"))
    data = build_data(cfg)
    train, heldout = splits = data.load()
    names = data.names
    counts = [split.count_labels(len(names)).tolist() for split in splits]
    print("\n".join(describe(train, heldout, names)))

    save_png(_contact_sheet(train, names, cfg.images_per_label), out / "contact_sheet.png")
    _plot_counts(counts[0], names, out / "counts.png")
    found: dict[str, Any] = {
        "images": {"train": len(train), "heldout": len(heldout)},
        "labels": {
            name: {"train": a, "heldout": b} for name, a, b in zip(names, *counts, strict=True)
        },
    }
    if train.labels.dtype == torch.uint8:
        together = co_occurrence(train.labels)
        _plot_co_occurrence(together, names, out / "cooccurrence.png")
        found["cooccurrence"] = together.tolist()
    same = same_pixels([train.images, heldout.images])
    close = _close_pairs(splits, same)
    files = _file_names(data, splits)
    found["same_pixels"] = [[files[i] for i in group] for group in same]
    found["look_alikes"] = [[files[i] for i in pair] for pair in close]
    if same or close:
        save_png(_duplicate_sheet(splits, [*same, *close]), out / "duplicates.png")
    leaks = sum(group[0] < len(train) <= group[-1] for group in same)
    print(
        f"{len(same)} groups of images with the same pixels, {leaks} of them across training and "
        f"held-out; {len(close)} more pairs look alike"
    )
    write_text(out / "inspection.json", json.dumps(found, indent=1) + "\n")
    print(f"pictures and inspection.json are in {out}")


def co_occurrence(labels: Tensor) -> Tensor:
    """Which share of the images with attribute ``i`` has attribute ``j`` too, float64 [K, K].

    Rows of attributes that no image has are zero.

    Arguments:
        labels: Bits, uint8 [N, K].
    """
    bits = labels.double()
    both = bits.T @ bits
    return both / both.diagonal().clamp(min=1).unsqueeze(1)


def _contact_sheet(split: Split, names: Sequence[str], columns: int) -> Image.Image:
    """A row of images for each label, spread over the split; of numbers from low to high."""
    rows = []
    for k in range(len(names)):
        where = _images_of(split.labels, k)
        shown = min(columns, len(where))
        rows.append(split.images[where[torch.arange(shown) * len(where) // max(shown, 1)]])
    return _sheet(rows, split, columns, names)


def _images_of(labels: Tensor, k: int) -> Tensor:
    """Which images have label ``k``, int64 [n]; those with a number from its lowest to highest."""
    if labels.is_floating_point():
        return labels[:, k].argsort(stable=True)[: int((~labels[:, k].isnan()).sum())]
    return (labels == k if labels.ndim == 1 else labels[:, k] == 1).nonzero().flatten()


def _duplicate_sheet(splits: Sequence[Split], groups: Sequence[Sequence[int]]) -> Image.Image:
    """A row of images for each group."""
    train, heldout = splits
    rows = [
        torch.stack(
            [
                train.images[i] if i < len(train) else heldout.images[i - len(train)]
                for i in group[:_MAX_SHOWN_OF_GROUP]
            ]
        )
        for group in groups[:_MAX_GROUPS_SHOWN]
    ]
    titles = [f"{len(group)} images" for group in groups[:_MAX_GROUPS_SHOWN]]
    return _sheet(rows, train, _MAX_SHOWN_OF_GROUP, titles)


def _sheet(
    rows: Sequence[Tensor], like: Split, columns: int, titles: Sequence[str]
) -> Image.Image:
    """Rows of images, filled up with white."""
    cells = torch.full((len(rows), columns, *like.images.shape[1:]), 255, dtype=torch.uint8)
    for row, images in zip(cells, rows, strict=True):
        row[: len(images)] = images
    return grid(cells.flatten(0, 1), columns=columns, titles=titles)


def _file_names(data: DataSet, splits: Sequence[Split]) -> list[str]:
    """What to call each image, training images first."""
    if isinstance(data, ImageFiles):
        return [data.source.images.names[i] for i in data.prepare().kept.tolist()]
    return [
        f"{what} image {i}"
        for what, split in zip(("training", "held-out"), splits, strict=True)
        for i in range(len(split))
    ]


def _close_pairs(splits: Sequence[Split], same: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Pairs that look alike without having the same pixels."""
    group_of = {i: number for number, group in enumerate(same) for i in group}
    pairs = look_alikes([split.images for split in splits])
    return [(i, j) for i, j in pairs if group_of.get(i, -1) != group_of.get(j, -2)]


def _plot_counts(counts: Sequence[int], names: Sequence[str], path: Path) -> None:
    # Imported here: it takes a second and nothing else needs it.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(names)), counts)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("training images")
    figure.savefig(path, dpi=120)


def _plot_co_occurrence(share: Tensor, names: Sequence[str], path: Path) -> None:
    from matplotlib.figure import Figure

    side = 3 + 0.2 * len(names)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share.numpy(), vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("has this too")
    axes.set_ylabel("of the images with this")
    figure.colorbar(picture, shrink=0.7, label="share of images")
    figure.savefig(path, dpi=120)
