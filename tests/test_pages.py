"""All pages and figures share one look, by day and night."""

import re

import pytest
from cli import ROOT

from ccdiff.errors import UserError
from ccdiff.pages.figures import COLOURS, FAINT, INK, as_svg, check_format, figure_of, save_figure
from ccdiff.pages.html import colours, document, look, scrolled


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("night", [False, True])
def test_words_and_lines_stand_out(night):
    """4.5 for text and 3 for what is drawn, but for the lightest hues, which have dashes too."""
    of = colours(night=night)
    for ground in ("paper", "field", "hover"):
        for text in ("ink", "soft", "mark"):
            assert contrast(of[text], of[ground]) >= 4.5, (text, ground)
    for ground in ("good", "bad"):
        assert contrast(of["ink"], of[ground]) >= 4.5
    drawn = [contrast(of[f"c{k}"], of["paper"]) for k in range(7)]
    assert min(drawn) > 2.6
    assert sum(c >= 3 for c in drawn) >= 5


def test_the_documentation_has_the_same_colours():
    style = (ROOT / "docs" / "style.css").read_text()
    for scheme, night in (("default", False), ("slate", True)):
        of = colours(night=night)
        stated = style.partition(f'[data-md-color-scheme="{scheme}"]')[2].partition("}")[0]
        named = dict(re.findall(r"--md-([\w-]+): (#\w+);", stated))
        for name, key in (
            ("default-bg-color", "paper"),
            ("default-fg-color", "ink"),
            ("default-fg-color--light", "soft"),
            ("typeset-table-color", "line"),
            ("code-bg-color", "hover"),
            ("typeset-a-color", "mark"),
        ):
            assert named[name] == of[key], (scheme, name)


def test_a_page_is_one_file_and_text_is_text():
    page = document("<b>", scrolled("<table></table>", name='"wide"'))
    assert "<title>&lt;b&gt;</title>" in page
    assert 'aria-label="&quot;wide&quot;"' in page
    assert look() in page
    assert "http" not in page


def test_figures_take_the_colours_of_the_page():
    figure = figure_of(4, 3)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=COLOURS[0])
    axes.axhline(0.5, color=FAINT)
    axes.text(0.5, 0.5, "<words>", color=INK)
    svg = as_svg(figure, 'a "line"')
    assert 'aria-label="a &quot;line&quot;"' in svg
    assert {"var(--c0)", "var(--soft)", "var(--ink)"} <= set(re.findall(r"var\([\w-]+\)", svg))
    assert not re.search(r"(?:fill|stroke): ?#", svg)
    assert "&lt;words&gt;" in svg
    assert "http" not in svg


@pytest.mark.parametrize(
    ("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_equal_data_give_equal_files(kind, begins, tmp_path):
    for name in ("a", "b"):
        figure = figure_of(4, 3)
        figure.subplots().plot([0, 1], [0, 1], label="line")
        save_figure(figure, tmp_path / f"{name}.{kind}")
    first = (tmp_path / f"a.{kind}").read_bytes()
    assert first.startswith(begins)
    assert first == (tmp_path / f"b.{kind}").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a.{kind}", f"b.{kind}"]


def test_other_formats_are_refused():
    with pytest.raises(UserError, match="png, svg, pdf, got bmp"):
        check_format("bmp")
