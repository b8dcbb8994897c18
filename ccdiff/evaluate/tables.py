"""The tables of an evaluation's page, as HTML."""

from collections.abc import Sequence
from math import isnan

from ccdiff.evaluate.narrowing import narrowings
from ccdiff.evaluate.report import Report
from ccdiff.metrics.definitions import definition
from ccdiff.metrics.figures import Figure, compare
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
    return f"<table>{rows}</table>"


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
    return (
        f'<table><tr><th class="t">figure</th><th class="t">compared with</th><th>value</th>'
        f"<th>95 %</th><th>real images</th><th>n</th></tr>{rows}</table>"
        f'<p class="n">“real images” is the same figure with real images of the same labels in '
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
    return (
        '<table><tr><th class="t">figure</th><th class="t">compared with</th><th>then</th>'
        "<th>now</th><th>difference</th><th>intervals apart</th></tr>" + "".join(rows) + "</table>"
    )


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
    return (
        f'<h2>Every class, worst first</h2><table><tr><th class="t">class</th><th>samples</th>'
        f"<th>agreement</th><th>fd to training images</th></tr>{rows}</table>"
        f'<p class="n">The distance of a class is of few images and therefore larger than that of '
        f"all; it compares classes, not runs.</p>"
    )


def confusion_table(report: Report) -> str:
    """Who is taken for whom; empty for attributes."""
    confusion = report.judged.confusion
    if confusion is None:
        return ""
    names = [html_text(name) for name in report.label_names]
    if len(names) > _MOST_IN_MATRIX:
        return '<h2>Confusion</h2><p class="n">Too many classes to show: see metrics.json.</p>'
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = []
    for k, (name, counts) in enumerate(zip(names, confusion.counts.tolist(), strict=True)):
        total = max(1, sum(counts))
        cells = "".join(_cell(count, count / total, k == j) for j, count in enumerate(counts))
        rows.append(f'<tr><th class="t">{name}</th>{cells}</tr>')
    return (
        f"<h2>Confusion</h2><p class='n'>Rows: what was asked for. Columns: what the classifier "
        f'takes it for.</p><div class="s"><table class="m"><tr><th></th>{head}</tr>'
        f"{''.join(rows)}</table></div>"
    )


def _cell(count: int, share: float, right: bool) -> str:
    colour = "42,111,151" if right else "193,87,47"
    # Mistakes are few, so they are shown stronger than their share; more are always darker.
    strength = share if right else share**0.5
    ink = "#fff" if strength > 0.6 else "inherit"
    style = f"background:rgba({colour},{strength:.2f});color:{ink}"
    return f'<td style="{style}">{count or ""}</td>'


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
    return (
        '<h2>Attributes, worst first</h2><table><tr><th class="t">attribute</th>'
        f"<th>precision</th><th>recall</th><th>F1</th><th>balanced accuracy</th>"
        f"<th>base rate</th></tr>{rows}</table>"
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
    return (
        '<h2>Numbers, worst first</h2><table><tr><th class="t">number</th>'
        "<th>error, in standard deviations of the training images</th>"
        f"<th>correlation of found and asked for</th></tr>{rows}</table>"
    )
