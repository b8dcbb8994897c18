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
from ccdiff.generation.labels import frequent_rows, label_title
from ccdiff.inspect.duplicates import look_alikes, same_pixels
from ccdiff.pages.figures import COLOURS, check_format, figure_of, save_figure
from ccdiff.pictures import save_png, sheet
from ccdiff.runs.folder import output_folder
from ccdiff.system.atomic import write_text

__all__ = ["co_occurrence", "run_inspection"]

_MAX_COMBINATIONS = 20
_MAX_GROUPS_SHOWN = 30
_MAX_SHOWN_OF_GROUP = 8


def run_inspection(cfg: DictConfig) -> None:
    """Writes pictures and ``inspection.json`` to ``cfg.out``, and prints the counts.

    Raises:
        UserError: Where ``out`` holds something, the sheet would have no columns, or figures are
            not written in that format.
    """
    if cfg.images_per_label < 1:
        raise UserError(f"images_per_label must be at least 1, got {cfg.images_per_label}")
    check_format(cfg.format)
    out = output_folder(cfg.out, Path("inspection"))
    data = build_data(cfg)
    train, heldout = splits = data.load()
    names = data.names
    counts = [split.count_labels(len(names)).tolist() for split in splits]
    print("\n".join(describe(train, heldout, names)))

    save_png(_contact_sheet(train, names, cfg.images_per_label), out / "contact_sheet.png")
    _plot_counts(counts[0], names, out / f"counts.{cfg.format}")
    found: dict[str, Any] = {
        "images": {"train": len(train), "heldout": len(heldout)},
        "labels": {
            name: {"train": a, "heldout": b} for name, a, b in zip(names, *counts, strict=True)
        },
    }
    if train.labels.dtype == torch.uint8:
        together = co_occurrence(train.labels)
        _plot_co_occurrence(together, names, out / f"cooccurrence.{cfg.format}")
        combinations = _combination_sheet(train, names, cfg.images_per_label)
        save_png(combinations, out / "combinations.png")
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
    rows = [_spread(split, _images_of(split.labels, k), columns) for k in range(len(names))]
    titles = names
    return sheet(rows, columns=columns, titles=titles)


def _combination_sheet(split: Split, names: Sequence[str], columns: int) -> Image.Image:
    """A row of images for each of the most frequent combinations of attributes, with its share."""
    labels = split.labels.cpu()
    rows, titles = [], []
    for asked in frequent_rows(labels)[:_MAX_COMBINATIONS]:
        where = (labels == asked).all(1).nonzero().flatten()
        rows.append(_spread(split, where, columns))
        titles.append(f"{len(where) / len(labels):.0%} {label_title(asked, names)}")
    return sheet(rows, columns=columns, titles=titles)


def _spread(split: Split, where: Tensor, columns: int) -> Tensor:
    """At most so many of some images, from the first of them to the last."""
    shown = min(columns, len(where))
    return split.images[where[torch.arange(shown) * len(where) // max(shown, 1)]]


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
    return sheet(rows, columns=_MAX_SHOWN_OF_GROUP, titles=titles)


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
    if splits[0].images.is_floating_point():
        return []  # Points are all near to others.
    pairs = look_alikes([split.images for split in splits])
    return [(i, j) for i, j in pairs if group_of.get(i, -1) != group_of.get(j, -2)]


def _plot_counts(counts: Sequence[int], names: Sequence[str], path: Path) -> None:
    figure = figure_of(7, 1 + 0.2 * len(names))
    axes = figure.subplots()
    axes.barh(range(len(names)), counts, color=COLOURS[0])
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("training images")
    save_figure(figure, path)


def _plot_co_occurrence(share: Tensor, names: Sequence[str], path: Path) -> None:
    side = 3 + 0.2 * len(names)
    figure = figure_of(side, side)
    axes = figure.subplots()
    picture = axes.imshow(share.numpy(), vmin=0, vmax=1, cmap="cividis")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("has this too")
    axes.set_ylabel("of the images with this")
    figure.colorbar(picture, shrink=0.7, label="share of images")
    save_figure(figure, path)
