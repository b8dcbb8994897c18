"""The tables of an evaluation's page, as HTML."""

from collections.abc import Sequence
from math import isnan

from ccdiff.evaluate.narrowing import narrowings
from ccdiff.evaluate.report import Report
from ccdiff.metrics.definitions import definition
from ccdiff.metrics.figures import Figure, compare
from ccdiff.pages.html import scrolled
from ccdiff.system.text import html_text

__all__ = [
    "against_table",
    "attribute_table",
    "class_table",
    "confusion_table",
    "facts_table",
    "figure_table",
    "number_table",
    "outcome",
    "warnings",
]

_MOST_IN_MATRIX = 40
_FAINTEST = 0.2
"""Of a shade, for a single mistake among many."""


def outcome(report: Report) -> str:
    """What came out, in a sentence: do samples show their labels, and are they like images?"""
    said = [f"{len(report.y)} samples"]
    for figure in report.figures:
        kind = figure.name.removesuffix(f"_{figure.provenance.extractor}")
        if kind == "label_agreement":
            said.append(f"{figure.value:.1%} of their labels found in them{_real(figure, '.1%')}")
        elif kind == "label_error":
            said.append(
                f"numbers found {figure.value:.3g} standard deviations from those asked for"
                f"{_real(figure, '.3g')}"
            )
        elif kind in ("fd", "fid") and figure.provenance.reference == "heldout":
            said.append(
                f"{figure.name} to held-out images {figure.value:.3g}{_real(figure, '.3g')}"
            )
    return f'<p class="lead">{html_text("; ".join(said))}.</p>'


def _real(figure: Figure, form: str) -> str:
    return "" if figure.real is None else f" (in real images {figure.real:{form}})"


def warnings(report: Report, pairs: Sequence[tuple[Figure, Figure]]) -> str:
    """Banners: where the model ignores its label, and where figures rise as variety is lost."""
    told = [report.use.warning] if report.use is not None and report.use.blind else []
    told += narrowings(report.figures, pairs)
    return "".join(f'<p class="w">{html_text(text)}.</p>' for text in told)


def facts_table(report: Report) -> str:
    """What was evaluated and how."""
    rows = "".join(
        f'<tr><th class="t">{html_text(key)}</th><td class="t">{html_text(value)}</td></tr>'
        for key, value in report.facts.items()
    )
    return scrolled(f"<table>{rows}</table>", name="facts")


def _number(value: float | None) -> str:
    return "" if value is None or isnan(value) else f"{value:.4g}"


def _span(figure: Figure) -> str:
    if figure.interval is None:
        return ""
    return f"{figure.interval.low:.4g} … {figure.interval.high:.4g}"


def _meaning(figure: Figure) -> str:
    known = definition(figure.name)
    return "" if known is None else known.meaning


def figure_table(report: Report) -> str:
    """All figures, each with what it means."""
    rows = "".join(
        f'<tr><td class="t">{html_text(f.name)}<br><small>{html_text(_meaning(f))}</small></td>'
        f'<td class="t">{html_text(f.provenance.reference or "")}</td>'
        f"<td><b>{_number(f.value)}</b></td><td>{_span(f)}</td><td>{_number(f.real)}</td>"
        f"<td>{f.provenance.n}</td></tr>"
        for f in report.figures
    )
    table = (
        f'<table><tr><th class="t">figure</th><th class="t">compared with</th><th>value</th>'
        f"<th>95 %</th><th>real images</th><th>n</th></tr>{rows}</table>"
    )
    return (
        f"{scrolled(table, name='figures')}"
        f'<p class="note">“real images” is the same figure with real images of the same labels in '
        f"place of the samples: held-out images where samples are compared with training images, "
        f"and the other way round. Everything else that it depends on is in metrics.json.</p>"
    )


def against_table(pairs: Sequence[tuple[Figure, Figure]]) -> str:
    """Earlier figures beside ours."""
    rows = []
    for before, now in pairs:
        comparison = compare(before, now)
        clear = "yes" if comparison.clear else "no"
        rows.append(
            f'<tr><td class="t">{html_text(now.name)}</td>'
            f'<td class="t">{html_text(now.provenance.reference or "")}</td>'
            f"<td>{_number(before.value)}</td><td>{_number(now.value)}</td>"
            f"<td>{comparison.difference:+.4g}</td><td>{clear}</td></tr>"
        )
    table = (
        '<table><tr><th class="t">figure</th><th class="t">compared with</th><th>then</th>'
        "<th>now</th><th>difference</th><th>intervals apart</th></tr>" + "".join(rows) + "</table>"
    )
    return scrolled(table, name="figures then and now")


def class_table(report: Report, order: Sequence[int]) -> str:
    """Agreement and distance of classes, in the order given; empty for attributes."""
    confusion, distances = report.judged.confusion, report.class_distances
    if confusion is None or distances is None:
        return ""
    agreement, asked = confusion.per_class, confusion.counts.sum(1)
    rows = "".join(
        f'<tr><td class="t">{html_text(report.label_names[k])}</td><td>{asked[k]}</td>'
        f"<td>{agreement[k]:.1%}</td><td>{_number(float(distances[k]))}</td></tr>"
        for k in order
    )
    table = (
        f'<table><tr><th class="t">class</th><th>samples</th><th>agreement</th>'
        f"<th>fd to training images</th></tr>{rows}</table>"
    )
    return (
        f"<section><h2>Every class, worst first</h2>{scrolled(table, name='every class')}"
        f'<p class="note">The distance of a class is of few images and therefore larger than '
        f"that of all; it compares classes, not runs.</p></section>"
    )


def confusion_table(report: Report) -> str:
    """Who is taken for whom; empty for attributes."""
    confusion = report.judged.confusion
    if confusion is None:
        return ""
    names = [html_text(name) for name in report.label_names]
    if len(names) > _MOST_IN_MATRIX:
        return (
            '<section><h2>Confusion</h2><p class="note">Too many classes to show: see '
            "metrics.json.</p></section>"
        )
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = []
    for k, (name, counts) in enumerate(zip(names, confusion.counts.tolist(), strict=True)):
        total = max(1, sum(counts))
        cells = "".join(_cell(count, count / total, k == j) for j, count in enumerate(counts))
        rows.append(f'<tr><th class="t">{name}</th>{cells}</tr>')
    shades = "".join(
        f'<td style="{_ground("bad", share)}">{share:.0%}</td>' for share in (0.0, 0.25, 0.5, 1.0)
    )
    table = f'<table class="m"><tr><th></th>{head}</tr>{"".join(rows)}</table>'
    return (
        f'<section><h2>Confusion</h2><p class="note">Rows: what was asked for. Columns: what the '
        f"classifier takes it for, in samples. Shades are shares of a row, blue where it is "
        f"right, orange where it is not.</p>{scrolled(table, name='confusion')}"
        f'<table class="m" aria-label="shades"><tr>{shades}</tr></table></section>'
    )


def _cell(count: int, share: float, right: bool) -> str:
    style = _ground("good" if right else "bad", share)
    return f'<td style="{style}">{count or ""}</td>'


def _ground(name: str, share: float) -> str:
    """A shade by a share: in proportion to it, from the least that is still to be seen."""
    strength = _FAINTEST + (1 - _FAINTEST) * share if share > 0 else 0.0
    return f"background:color-mix(in srgb,var(--{name}) {strength:.0%},var(--paper))"


def attribute_table(report: Report) -> str:
    """Precision, recall and F1 of attributes; empty for classes."""
    if report.judged.attributes is None:
        return ""
    scored = zip(report.label_names, report.judged.attributes.scores, strict=True)
    rows = "".join(
        f'<tr><td class="t">{html_text(name)}</td><td>{_number(s.precision)}</td>'
        f"<td>{_number(s.recall)}</td><td>{_number(s.f1)}</td><td>{_number(s.balanced)}</td>"
        f"<td>{_number(s.base_rate)}</td></tr>"
        for name, s in sorted(scored, key=lambda pair: pair[1].balanced)
    )
    table = (
        '<table><tr><th class="t">attribute</th>'
        f"<th>precision</th><th>recall</th><th>F1</th><th>balanced accuracy</th>"
        f"<th>base rate</th></tr>{rows}</table>"
    )
    return (
        f"<section><h2>Attributes, worst first</h2>{scrolled(table, name='attributes')}</section>"
    )


def number_table(report: Report) -> str:
    """Error and correlation of numbers; empty for classes and attributes."""
    if report.judged.numbers is None:
        return ""
    scored = zip(report.label_names, report.judged.numbers.scores, strict=True)
    rows = "".join(
        f'<tr><td class="t">{html_text(name)}</td><td>{_number(s.error)}</td>'
        f"<td>{_number(s.correlation)}</td></tr>"
        for name, s in sorted(scored, key=lambda pair: -pair[1].error)
    )
    table = (
        '<table><tr><th class="t">number</th>'
        "<th>error, in standard deviations of the training images</th>"
        f"<th>correlation of found and asked for</th></tr>{rows}</table>"
    )
    return f"<section><h2>Numbers, worst first</h2>{scrolled(table, name='numbers')}</section>"
