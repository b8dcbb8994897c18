"""The page of an evaluation: one HTML file that needs nothing beside it."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ccdiff.data import Split
from ccdiff.evaluate.gallery import COLUMNS, Gallery, by_conviction, pairs_of_nearest, rows_of
from ccdiff.evaluate.plots import levels_figure
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
from ccdiff.pages.figures import as_svg, save_figure
from ccdiff.pages.html import document, image, scrolled
from ccdiff.pictures import grid, png, save_png
from ccdiff.runs.folder import Run
from ccdiff.runs.showing import training_figure
from ccdiff.system.atomic import write_text
from ccdiff.system.text import html_text

__all__ = ["write_page"]

_FEW_CLASSES = 3
_STYLE = """
td small{color:var(--soft)}
td,th{text-align:right}td.t,th.t{text-align:left;white-space:normal}
.m td,.m th{padding:.15em .5em;border:0;text-align:center;font-size:13px;min-width:2.8em}
.m+.m,.wide+.m{margin-top:.8em}
.m th.t{text-align:right}
.pair{display:flex;flex-wrap:wrap;gap:1.6rem 2.4rem}
.pair figure{margin:0;min-width:0;flex:1 1 300px;max-width:620px}
.pair img{width:100%;image-rendering:pixelated}
figcaption{color:var(--soft);margin-bottom:.3rem}
.w{background:#8f1d14;color:#fff;padding:.8em 1em;font-weight:600}
"""


def write_page(
    report: Report,
    shards: Sequence[Numbered],
    train: Split,
    against: Sequence[tuple[Figure, Figure]],
    run: Run | None,
    folder: Path,
    *,
    format: str = "png",
) -> list[Path]:
    """Writes ``index.html`` and the pictures that a tracker wants to have.

    Arguments:
        report: What was found.
        shards: The samples.
        train: Training images, to show beside samples.
        against: Pairs of an earlier figure and its like of this report.
        run: Where training was logged; None where there is no run.
        folder: Where to.
        format: Of figures, which are also written in this one.

    Returns:
        The pictures, as PNG files.
    """
    gallery = Gallery(shards)
    rows = rows_of(report.y, report.label_names, points=train.images.is_floating_point())
    samples = rows.samples(gallery)
    save_png(samples, folder / "samples.png")
    pictures, of_model = [folder / "samples.png"], []
    for stem, title, alt, figure in _of_model(report, run):
        for kind in dict.fromkeys(("png", format)):
            save_figure(figure, folder / f"{stem}.{kind}")
        pictures.append(folder / f"{stem}.png")
        of_model.append(_section(title, scrolled(as_svg(figure, alt), name=alt)))
    body = [
        f"<h1>{html_text(report.title)}</h1>",
        outcome(report),
        warnings(report, against),
        _section("Samples, one row per label", _beside(samples, rows.real(train))),
        _section("Figures", figure_table(report)),
        _section("Against an earlier evaluation", against_table(against) if against else ""),
        *_classes(report, gallery),
        confusion_table(report),
        attribute_table(report),
        number_table(report),
        _least_convincing(report, gallery),
        _section(
            "Samples nearest to training images",
            _note("Above: samples. Below: the training image whose features are nearest to each."),
            _shown(pairs_of_nearest(report, gallery, train), "samples above training images"),
        ),
        *of_model,
        _section("What was evaluated, and how", facts_table(report)),
    ]
    write_text(folder / "index.html", document(report.title, "".join(body), style=_STYLE))
    return pictures


def _of_model(report: Report, run: Run | None) -> list[tuple[str, str, str, object]]:
    """Figures that tell of the model and not of its samples: file, title, text, figure."""
    found: list[tuple[str, str, str, object]] = []
    if report.use is not None:
        alt = "errors on held-out images over noise levels"
        figure = levels_figure(report.use)
        found.append(("levels", "What the label adds, by noise level", alt, figure))
    if run is not None and (figure := training_figure(run)) is not None:
        found.append(("training", "Over training", "figures over training steps", figure))
    return found


def _section(title: str, *parts: str) -> str:
    """Parts under a heading; nothing where all of them are empty."""
    html = "".join(parts)
    return f"<section><h2>{title}</h2>{html}</section>" if html else ""


def _note(text: str) -> str:
    return f'<p class="note">{text}</p>'


def _shown(picture: Image.Image, alt: str) -> str:
    return scrolled(image(png(picture), alt), name=alt)


def _beside(samples: Image.Image, real: Image.Image | None) -> str:
    """Samples, and real images of the same labels in the same rows."""
    figures = [("samples", samples)]
    if real is not None:
        figures.append(("training images of the same labels", real))
    shown = (
        f"<figure><figcaption>{name}</figcaption>{_shown(picture, f'{name}, a row per label')}"
        f"</figure>"
        for name, picture in figures
    )
    return f'<div class="pair">{"".join(shown)}</div>'


def _classes(report: Report, gallery: Gallery) -> list[str]:
    confusion, distances = report.judged.confusion, report.class_distances
    if confusion is None or distances is None:
        return []
    agreement, asked = confusion.per_class, confusion.counts.sum(1)
    order = sorted(
        (k for k in range(len(asked)) if asked[k] > 0),
        key=lambda k: (float(agreement[k]), -float(distances[k].nan_to_num())),
    )
    few = min(_FEW_CLASSES, max(1, len(order) // 2))
    worst, best = (
        by_conviction(report, gallery, chosen, best=best)
        for chosen, best in ((order[:few], False), (order[::-1][:few], True))
    )
    return [
        _section(
            "The worst classes, their least convincing samples", _shown(worst, "worst classes")
        ),
        _section("The best classes, their most convincing samples", _shown(best, "best classes")),
        class_table(report, order),
    ]


def _least_convincing(report: Report, gallery: Gallery) -> str:
    order, taken = report.judged.conviction.argsort()[:COLUMNS], report.judged.taken
    titles = []
    for i in order.tolist():
        seen = "" if taken is None else f", looks like {report.label_names[int(taken[i])]}"
        titles.append(f"{label_title(report.y[i], report.label_names)}{seen}")
    return _section(
        "The least convincing samples",
        _note("Those in which the judge finds least of their label."),
        _shown(grid(gallery(order), columns=1, titles=titles), "least convincing samples"),
    )
