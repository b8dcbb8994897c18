"""What ``--help`` prints: groups with what each option is, keys with their values, examples.

All of it is read from ``conf/``. Hydra has a help of its own (``--hydra-help`` says how to get
it), for which it copies its whole store of configs again for every group that it lists.
"""

import ast
import inspect
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

from ccdiff.settings import EvaluateSettings, TrainerSettings
from ccdiff.system.typed import as_typed

__all__ = ["asks_for_help", "print_help"]

_ASKING = {"--help", "-h"}
_PLAIN_WIDTH = 100
_EXAMPLE = re.compile(r"# (python .+?)(?:\s{2,}(.+))?$")
_CHOICE = re.compile(r"^  - (?:override )?/?([\w/]+): (\S+)(?: # (.+))?$", re.MULTILINE)
_BASE = re.compile(r"^  - (\w+)$", re.MULTILINE)
_KEY = re.compile(r"^(\w+):.*? # (.+)$", re.MULTILINE)
_SETTINGS = {"trainer": TrainerSettings, "evaluate": EvaluateSettings}
_LONGEST_VALUE = 48
_FLAGS = {
    "-m, --multirun": "a sweep: key=1,2 or group=a,b, every combination a run",
    "--cfg job": "print the whole config and leave",
    "--config-dir FOLDER": "options of your own besides these, such as FOLDER/sampler/mine.yaml",
    "--hydra-help": "what Hydra's own flags do",
}


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether ``--help`` is among the arguments of a command."""
    return not _ASKING.isdisjoint(arguments)


def print_help(
    name: str, arguments: Sequence[str], *, about: str, schema: type | None = None
) -> None:
    """Prints what a command takes; what needs no composing comes at once.

    Arguments:
        name: Of the command, and of its YAML.
        arguments: All that was typed: options and values among them are shown.
        about: What the command does.
        schema: Dataclass of its keys, whose docstrings explain them.

    Raises:
        UserError: Where the arguments do not compose.
    """
    # Hydra takes a moment to import, and what stands above it can be read meanwhile.
    from ccdiff.config.options import CONF

    extra = _after("--config-dir", arguments)
    flags = {"--config-dir", extra}
    overrides = [a for a in arguments if not a.startswith("-") and a not in flags]
    page = _Page(sys.stdout)
    files = _Files((CONF, *([Path(extra)] if extra else [])), name)
    page.usage(name, about)
    page.examples(files.examples())
    # What was typed may bring other options along; without it, those of the YAML are chosen.
    composed = _composed(name, overrides, extra, schema) if overrides else None
    chosen = files.defaults() if composed is None else composed[1]
    page.heading("Groups", "group=option; * is chosen")
    for group in files.groups():
        page.group(group, files.meaning(group), files.options(group), chosen.get(group))
    sys.stdout.flush()
    config, choices = composed or _composed(name, overrides, extra, schema)
    page.heading("Keys", "key=value")
    for key, node in config.items():
        if isinstance(node, dict):
            option = choices.get(str(key))
            notes = files.notes(str(key), option) | _docstrings(_SETTINGS.get(str(key)))
            page.keys(str(key), node, notes, option=option)
    plain = {key: node for key, node in config.items() if not isinstance(node, dict)}
    shown = {key: node for key, node in plain.items() if key not in files.groups()}
    page.keys("", shown, _docstrings(schema) | files.notes("", name))
    page.heading("Flags")
    page.rows(list(_FLAGS.items()))


def _after(flag: str, arguments: Sequence[str]) -> str | None:
    """The value of a flag, as ``--flag value`` or ``--flag=value``."""
    for here, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if here == flag:
            return following
        if here.startswith(f"{flag}="):
            return here.partition("=")[2]
    return None


def _composed(
    name: str, overrides: Sequence[str], extra: str | None, schema: type | None
) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """The values of all keys, as plain values, and the option of each group."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    from ccdiff.config.options import compose
    from ccdiff.errors import UserError
    from ccdiff.launch.explain import explained
    from ccdiff.launch.labels import label_arguments
    from ccdiff.launch.texts import text_arguments

    given = label_arguments(list(overrides))
    given = given if schema is None else text_arguments(given, schema)
    search = [f"hydra.searchpath=['file://{Path(extra).absolute()}']"] if extra else []
    try:
        composed = compose(name, [*given, *search], with_hydra=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(explained(error, overrides, name)) from error
    choices = {str(k): str(v) for k, v in composed.hydra.runtime.choices.items()}
    with open_dict(composed):
        del composed["hydra"]
    config: Any = OmegaConf.to_container(composed, resolve=False, enum_to_str=True)
    return config, choices


def _docstrings(cls: type | None) -> dict[str, str]:
    """The first lines of what stands below the fields of a dataclass."""
    if cls is None:
        return {}
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError):
        return {}  # Installed without its source.
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    found = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value)
            found[ast.unparse(field.target)] = inspect.cleandoc(text).partition("\n\n")[0]
    return {key: " ".join(text.split()).rstrip(".") for key, text in found.items()}


@dataclass(frozen=True)
class _Files:
    """What the YAML of a command and of its groups says in its comments.

    Arguments:
        folders: Of the configs, the suite's own first.
        name: Of the command.
    """

    folders: tuple[Path, ...]
    name: str

    def _text(self, *parts: str) -> str:
        for folder in self.folders:
            path = folder.joinpath(*parts).with_suffix(".yaml")
            if path.is_file():
                return path.read_text(encoding="utf-8")
        return ""

    def examples(self) -> list[tuple[str, str]]:
        """Commands, each with what it does."""
        lines = self._text(self.name).splitlines()
        found = [match for line in lines if (match := _EXAMPLE.match(line))]
        return [(match[1], match[2] or "") for match in found]

    def defaults(self) -> dict[str, str]:
        """The option of each group that the command takes where none is chosen."""
        choices = _CHOICE.findall(self._text(self.name))
        return {group: option for group, option, _ in choices if not group.startswith("hydra/")}

    def groups(self) -> list[str]:
        """Those of the command, and those inside them."""
        found = []
        for group in self.defaults():
            inside = [p for f in self.folders for p in sorted((f / group).glob("*/"))]
            found += [group, *(f"{group}/{path.name}" for path in inside if path.is_dir())]
        return list(dict.fromkeys(found))

    def meaning(self, group: str) -> str:
        """What a group decides."""
        for name in (self.name, "train"):
            for found, _, comment in _CHOICE.findall(self._text(name)):
                if found == group and comment:
                    return str(comment)
        return ""

    def options(self, group: str) -> list[tuple[str, str]]:
        """The options of a group, each with the first sentence of its YAML."""
        paths = [path for folder in self.folders for path in (folder / group).glob("*.yaml")]
        named = {path.stem: path.read_text(encoding="utf-8") for path in paths}
        return [(stem, _first_sentence(text)) for stem, text in sorted(named.items())]

    def notes(self, group: str, option: str | None) -> dict[str, str]:
        """What stands behind the keys of an option, and of those that it builds on."""
        if not option:
            return {}
        text = self._text(*([group] if group else []), option)
        bases = [base for base in _BASE.findall(text) if group and base not in ("schema", option)]
        below = {k: v for base in bases for k, v in self.notes(group, base).items()}
        return below | dict(_KEY.findall(text))


def _first_sentence(text: str) -> str:
    """Of the comment that a YAML begins with; of an example what is said of it."""
    said: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#") or line.startswith("#   "):
            break
        example = _EXAMPLE.match(line)
        if example and (said or example[2]):
            said += [] if said else [example[2]]
            break
        if not example and not line.startswith("# @package"):
            said.append(line.removeprefix("#").strip())
    return re.split(r"(?<!e\.g)\. ", " ".join(said))[0].rstrip(".:")


class _Page:
    """Lines as wide as the terminal, with colours where it has them.

    Arguments:
        out: Where they go.
    """

    def __init__(self, out: TextIO) -> None:
        self.out = out
        terminal = out.isatty()
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
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

    def usage(self, name: str, about: str) -> None:
        """How it is called, and what it does."""
        self._wrap(f"usage: {as_typed(name)} [group=option ...] [key=value ...] [flags]", 4)
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
