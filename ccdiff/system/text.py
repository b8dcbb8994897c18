"""Text that comes from data: harmless wherever it goes, and names in their natural order."""

import re
import unicodedata
from html import escape
from typing import Any

__all__ = ["csv_cell", "html_text", "markdown", "natural_key", "printable"]

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of what moves the cursor, turns text around or breaks lines."""
_JOINERS = "\u200c\u200d"
"""Part of words in some scripts, and of emoji."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MARKUP = re.compile(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))")


def printable(text: str, *, keep: str = "") -> str:
    r"""A text with control characters, line breaks and changes of direction written out.

    Such as ``\x1b[2J`` for what would clear a terminal, and ``\u202e`` for what would show the
    rest backwards.

    Arguments:
        text: Any.
        keep: Characters to leave as they are.
    """
    return "".join(
        c
        if c in keep or c in _JOINERS or unicodedata.category(c) not in _HIDDEN
        else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )


def csv_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: texts that begin like one get a quote."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if value.startswith(_FORMULA) else text


def html_text(text: str) -> str:
    """A text as itself within HTML, also within an attribute in quotes."""
    return escape(printable(text))


def markdown(text: str) -> str:
    """A text as itself within a line or a cell of Markdown: neither markup nor HTML."""
    return _MARKUP.sub(r"\\\1", escape(printable(text), quote=False)).replace("://", ":\\//")


def natural_key(name: str) -> tuple[tuple[tuple[str, ...], ...], str]:
    """Sorts ``2.jpg`` before ``10.jpg``, and a folder's files together."""
    parts = (re.split("([0-9]+)", part) for part in name.split("/"))
    key = tuple(tuple(_digits(p) if i % 2 else p for i, p in enumerate(part)) for part in parts)
    return key, name


def _digits(number: str) -> str:
    """A text that sorts as the number does, however long; ``int`` takes 4,300 digits at most."""
    digits = number.lstrip("0")
    return f"{len(digits):012d}{digits}"
