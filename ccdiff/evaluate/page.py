"""The page of an evaluation: one HTML file that needs nothing beside it."""

import base64
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ccdiff.data import Split
from ccdiff.evaluate.plots import plot_levels
from ccdiff.evaluate.report import Report
from ccdiff.evaluate.shards import Numbered
from ccdiff.evaluate.tables import (
    against_table,
    attribute_table,
    class_table,
    confusion_table,
    facts_table,
    figure_table,
    number_table,
    outcome,
    warnings,
)
from ccdiff.generation.labels import label_title
from ccdiff.metrics.figures import Figure
from ccdiff.metrics.references import shuffled
from ccdiff.pictures import grid, save_png
from ccdiff.runs.folder import Run
from ccdiff.runs.showing import plot_training
from ccdiff.system.atomic import write_text
from ccdiff.system.text import html_text

__all__ = ["write_page"]

_COLUMNS = 10
_MOST_ROWS = 20
_FEW_CLASSES = 3
_CLOSEST = 10
_STYLE = """
:root{color-scheme:light dark;--ink:#222;--soft:#666;--line:#e5e5e5;--paper:#fff}
@media (prefers-color-scheme:dark){
:root{--ink:#e6e6e6;--soft:#a6a6a6;--line:#3a3a3a;--paper:#161616}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:980px;
margin:2em auto;padding:0 1em}
h1{font-size:1.5em;margin-bottom:.2em;overflow-wrap:anywhere}h2{font-size:1.15em;margin-top:2em}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.15em .7em;text-align:right;border-bottom:1px solid var(--line)}
th{font-weight:600}td{white-space:nowrap}td.t,th.t{text-align:left;white-space:normal}
td.t small{color:var(--soft)}
.m td,.m th{padding:.1em .45em;border:0;text-align:center;font-size:13px}
img{max-width:100%;background:#fff}.s{overflow-x:auto}.lead{font-size:1.1em}
.w{background:#8f1d14;color:#fff;padding:.8em 1em;font-weight:600}
.n{color:var(--soft);font-size:13px}summary{cursor:pointer}
"""


def write_page(
    report: Report,
    shards: Sequence[Numbered],
    train: Split,
    against: Sequence[tuple[Figure, Figure]],
    run: Run | None,
    folder: Path,
) -> list[Path]:
    """Writes ``index.html`` and the pictures that a tracker wants to have.

    Arguments:
        report: What was found.
        shards: The samples.
        train: Training images, to show beside samples.
        against: Pairs of an earlier figure and its like of this report.
        run: Where training was logged; None where there is no run.
        folder: Where to.

    Returns:
        The pictures.
    """
    gallery = _Gallery(shards)
    samples = _save(_sample_grid(report, gallery), folder / "samples.png")
    of_model = _of_model(report, run, folder)
    pictures = [samples, *(path for path, *_ in of_model)]
    parts = [
        f"<h1>{html_text(report.title)}</h1>",
        outcome(report),
        warnings(report, against),
        "<h2>Samples, one row per label</h2>",
        _image(samples, "samples, one row per label"),
        "<h2>Figures</h2>",
        _scrolled(figure_table(report)),
        *(
            []
            if not against
            else ["<h2>Against an earlier evaluation</h2>", _scrolled(against_table(against))]
        ),
        *_classes(report, gallery, folder),
        confusion_table(report),
        attribute_table(report),
        number_table(report),
        "<h2>The least convincing samples</h2>",
        _least_convincing(report, gallery, folder),
        "<h2>Samples nearest to training images</h2>",
        _nearest(report, gallery, train, folder),
        *(f"<h2>{title}</h2>{_image(path, alt)}" for path, title, alt in of_model),
        "<h2>What was evaluated, and how</h2>",
        _scrolled(facts_table(report)),
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{html_text(report.title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )
    write_text(folder / "index.html", page)
    return pictures


def _of_model(report: Report, run: Run | None, folder: Path) -> list[tuple[Path, str, str]]:
    """Pictures that tell of the model and not of its samples, each with title and text."""
    found = []
    if report.use is not None:
        levels = plot_levels(report.use, folder / "levels.png")
        alt = "errors on held-out images over noise levels"
        found.append((levels, "What the label adds, by noise level", alt))
    if run is not None and plot_training(run, folder / "training.png"):
        found.append((folder / "training.png", "Over training", "figures over training steps"))
    return found


class _Gallery:
    """Samples by their numbers."""

    def __init__(self, shards: Sequence[Numbered]) -> None:
        self.shards = shards

    def __call__(self, numbers: Tensor) -> Tensor:
        """uint8 [len(numbers), C, H, W]."""
        found: dict[int, Tensor] = {}
        wanted = set(numbers.tolist())
        for shard in self.shards:
            if here := wanted.intersection(shard.numbers):
                images = shard.images()
                found |= {i: images[i - shard.numbers.start] for i in here}
        return torch.stack([found[i] for i in numbers.tolist()])


def _save(picture: object, path: Path) -> Path:
    save_png(picture, path)  # type: ignore[arg-type]
    return path


def _uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _scrolled(table: str) -> str:
    """A table that is wider than a phone moves by itself, and the page stays."""
    return f'<div class="s">{table}</div>'


def _image(path: Path, alt: str) -> str:
    return f'<div class="s"><img src="{_uri(path)}" alt="{html_text(alt)}"></div>'


def _inline(images: Tensor, columns: int, titles: Sequence[str], folder: Path, alt: str) -> str:
    """A grid that stays in the page alone."""
    path = _save(grid(images, columns=columns, titles=titles), folder / ".picture.png")
    html = _image(path, alt)
    path.unlink()
    return html


def _title(report: Report, number: int) -> str:
    return label_title(report.y[number], report.label_names)


def _of_class(report: Report, k: int) -> Tensor:
    return (report.y == k).nonzero().squeeze(1)[:_COLUMNS]


def _by_conviction(report: Report, k: int, *, descending: bool) -> Tensor:
    """Samples of a class, the most or the least convincing first."""
    numbers = (report.y == k).nonzero().squeeze(1)
    order = report.judged.conviction[numbers].argsort(descending=descending)
    return numbers[order[:_COLUMNS]]


def _sample_grid(report: Report, gallery: _Gallery) -> object:
    if report.y.ndim == 2:
        numbers = torch.arange(min(len(report.y), 12))
        titles = [_title(report, i) for i in numbers.tolist()]
        return grid(gallery(numbers), columns=1, titles=titles)
    rows = [_of_class(report, k) for k in range(min(len(report.label_names), _MOST_ROWS))]
    columns = min(len(row) for row in rows)
    titles = list(report.label_names[: len(rows)])
    return grid(
        gallery(torch.cat([row[:columns] for row in rows])), columns=columns, titles=titles
    )


def _classes(report: Report, gallery: _Gallery, folder: Path) -> list[str]:
    confusion, distances = report.judged.confusion, report.class_distances
    if confusion is None or distances is None:
        return []
    agreement, asked = confusion.per_class, confusion.counts.sum(1)
    order = sorted(
        (k for k in range(len(asked)) if asked[k] > 0),
        key=lambda k: (float(agreement[k]), -float(distances[k].nan_to_num())),
    )
    few = min(_FEW_CLASSES, max(1, len(order) // 2))
    html = []
    for title, chosen in (("worst", order[:few]), ("best", order[::-1][:few])):
        rows = [_by_conviction(report, k, descending=title == "best") for k in chosen]
        columns = min(len(row) for row in rows)
        titles = [report.label_names[k] for k in chosen]
        images = gallery(torch.cat([row[:columns] for row in rows]))
        most = "least" if title == "worst" else "most"
        html.append(f"<h2>The {title} classes, their {most} convincing samples</h2>")
        html.append(_inline(images, columns, titles, folder, f"{title} classes"))
    html.append(class_table(report, order))
    return html


def _least_convincing(report: Report, gallery: _Gallery, folder: Path) -> str:
    order = report.judged.conviction.argsort()[:_COLUMNS]
    titles = []
    for i in order.tolist():
        taken = report.judged.taken
        seen = "" if taken is None else f", looks like {report.label_names[int(taken[i])]}"
        titles.append(f"{_title(report, i)}{seen}")
    note = '<p class="n">Those in which the judge finds least of their label.</p>'
    return note + _inline(gallery(order), 1, titles, folder, "least convincing samples")


def _nearest(report: Report, gallery: _Gallery, train: Split, folder: Path) -> str:
    order = report.near.distance.argsort()[:_CLOSEST]
    twins = shuffled(len(train))[report.near.which[order]]
    pairs = torch.stack([gallery(order), train.images[twins].cpu()]).flatten(0, 1)
    note = (
        '<p class="n">Above: samples. Below: the training image whose features are nearest to '
        "each.</p>"
    )
    titles = ["samples", "training images"]
    return note + _inline(pairs, len(order), titles, folder, "samples beside training images")
