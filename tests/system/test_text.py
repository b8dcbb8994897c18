"""Text from data acts on nothing: terminals, spreadsheets, Markdown, pages."""

import csv
import io
import logging
import os
import subprocess
import sys

import pytest

from ccdiff.system.console import guard_console
from ccdiff.system.text import csv_cell, html_text, markdown, printable

ACTING = "\x1b[2J\x1b]0;title\x07\r\n\u202eevil\u2028\x9b1m\x00"


def test_nothing_that_moves_a_cursor_is_left():
    text = printable(ACTING)
    assert text.isprintable()
    assert "evil" in text
    assert "\\x1b[2J" in text


@pytest.mark.parametrize("text", ["Größe 38", "ß ł ж é ü", "猫と犬", "👩‍👩‍👧", "a=b", "-", "  "])
def test_words_stay_as_they_are(text):
    assert printable(text) == text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2+3", "@SUM(A1)", "\tx", "\r=1"])
def test_no_cell_is_a_formula(text):
    file = io.StringIO()
    csv.writer(file).writerow([csv_cell(text)])
    (cell,) = next(csv.reader(io.StringIO(file.getvalue())))
    assert cell[0] == "'"
    assert csv_cell(-2.5) == -2.5, "numbers are numbers"


def test_markup_is_text():
    shown = markdown("<img src=x onerror=alert(1)> [a](http://b) **c** `d` | e\nf")
    assert "<" not in shown
    for mark in ("[", "]", "*", "`", "|"):
        assert shown.count(mark) == shown.count(f"\\{mark}")
    assert "\n" not in shown
    assert "://" not in shown
    assert markdown("heldout/eps_mse 0.5 (step 3)") == "heldout/eps_mse 0.5 (step 3)"
    assert markdown("_a_") == "\\_a\\_"


def test_a_page_shows_markup_as_text():
    assert html_text('<b title="x">&\u202e') == "&lt;b title=&quot;x&quot;&gt;&amp;\\u202e"


def test_what_is_logged_cannot_act_on_the_terminal():
    root, stream = logging.getLogger(), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root.addHandler(handler)
    try:
        guard_console()
        guard_console()
        logging.getLogger("x").warning("the label %s\nand more", ACTING)
    finally:
        root.removeHandler(handler)
    assert stream.getvalue().startswith("WARNING the label \\x1b[2J")
    assert stream.getvalue().endswith("\nand more\n"), "lines of a message stay lines"
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("around", ["nullcontext()", "beside_bars()"])
def test_a_closed_pipe_ends_nothing_and_is_no_traceback(around):
    code = (
        "import logging, sys, time\n"
        "logging.basicConfig(stream=sys.stdout, level='INFO')\n"
        "from contextlib import nullcontext\n"
        "from ccdiff.system.console import beside_bars, guard_console\n"
        "guard_console()\n"
        "sys.stdin.read()\n"
        f"with {around}:\n"
        "    for i in range(50): logging.info('line %d', i)\n"
        "print('done', file=sys.stderr)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=os.getcwd(),
    ) as process:
        process.stdout.close()
        process.stdin.close()
        told = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert told == "done\n"
