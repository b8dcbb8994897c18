"""What ``--help`` is laid out as: as wide as the terminal, with colours where it has them."""

import os
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from ccdiff.system.typed import as_typed

__all__ = ["Page"]

_PLAIN_WIDTH = 100
_LONGEST_VALUE = 48


class Page:
    """Lines as wide as the terminal, with colours where it has them.

    Arguments:
        out: Where they go.
    """

    def __init__(self, out: TextIO) -> None:
        self.out = out
        terminal = out.isatty()
        # Empty, it says nothing: no-color.org.
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self.colours = terminal and not plain
        wide = terminal or "COLUMNS" in os.environ
        self.width = shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns if wide else _PLAIN_WIDTH

    def _styled(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours and text else text

    def _print(self, line: str = "") -> None:
        self.out.write(f"{line}\n")

    def _wrap(self, text: str, hang: int = 0, *, start: tuple[str, int] = ("", 0)) -> None:
        """A text over as many lines as it takes, the word that it starts with in a colour."""
        lines = textwrap.wrap(
            text, self.width, subsequent_indent=" " * hang, break_long_words=False
        )
        for i, line in enumerate(lines):
            word = start[0] if i == 0 else ""
            self._print(line.replace(word, self._styled(word, start[1]), 1) if word else line)

    def usage(self, name: str, about: str, takes: str) -> None:
        """How it is called, and what it does."""
        self._wrap(f"usage: {as_typed(name)} {takes}", 4)
        self._print()
        self._wrap(about)

    def heading(self, title: str, remark: str = "") -> None:
        """The title of a part."""
        self._print()
        self._wrap(f"{title} ({remark})" if remark else title, start=(title, 1))

    def examples(self, examples: Sequence[tuple[str, str]]) -> None:
        """Commands to begin with."""
        self.heading("Examples")
        self.rows(examples)

    def group(
        self, group: str, meaning: str, options: Sequence[tuple[str, str]], chosen: str | None
    ) -> None:
        """A group with its options, of which one is chosen."""
        self._wrap(f"  {group}: {meaning}" if meaning else f"  {group}", 4, start=(group, 36))
        marked = [(f"{'*' if name == chosen else ' '} {name}", text) for name, text in options]
        self.rows(marked, indent=3)

    def keys(
        self,
        group: str,
        node: Mapping[str, Any],
        notes: Mapping[str, str],
        *,
        option: str | None = None,
    ) -> None:
        """The keys of a group by their dotted names, each with its value."""
        if group:
            self._print(f"  {self._styled(group, 36)}{f' = {option}' if option else ''}")
        rows = [
            (f"{key}={_shown(value)}", notes.get(key.rpartition(".")[2], ""))
            for key, value in _leaves(node, f"{group}." if group else "")
        ]
        self.rows(rows, indent=4 if group else 2)

    def rows(self, rows: Sequence[tuple[str, str]], *, indent: int = 2) -> None:
        """Two columns; the second one below the first where both are too wide for the page."""
        widths = [len(left) for left, _ in rows]
        column = min(max(widths, default=0), max(24, self.width // 2))
        for left, right in rows:
            beside = len(left) <= column and self.width - indent - column >= 24
            margin = indent + column + 2 if beside else indent + 4
            first = f"{' ' * indent}{left}"
            if not beside:
                self._wrap(first, margin)
            wrapped = textwrap.wrap(right, max(20, self.width - margin)) if right else []
            for i, line in enumerate(wrapped):
                lead = first.ljust(margin) if beside and i == 0 else " " * margin
                self._print(lead + self._styled(line, 2))
            if beside and not wrapped:
                self._print(first)


def _leaves(node: Mapping[str, Any], within: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if str(key).startswith("_"):
            continue
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{within}{key}.")
        else:
            yield f"{within}{key}", value


def _shown(value: Any) -> str:
    """A value as it is typed, cut where it is long."""
    if value is None:
        return "null"
    if isinstance(value, list):
        text = f"[{','.join(map(_shown, value))}]"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
