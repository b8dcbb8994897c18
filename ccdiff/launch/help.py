"""What ``--help`` prints: groups with what each option is, keys with their values, examples.

All of it is read from ``conf/``. Hydra has a help of its own (``--hydra-help`` says how to get
it), for which it copies its whole store of configs again for every group that it lists.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

from ccdiff.launch.layout import Page
from ccdiff.settings import EvaluateSettings, TrainerSettings
from ccdiff.system.typed import as_typed

__all__ = ["asks_for_help", "print_help", "print_plain_help"]

_ASKING = {"--help", "-h"}
_EXAMPLE = re.compile(r"# (python .+?)(?:\s{2,}(.+))?$")
_CHOICE = re.compile(r"^  - (?:override )?/?([\w/]+): (\S+)(?: # (.+))?$", re.MULTILINE)
_BASE = re.compile(r"^  - (\w+)$", re.MULTILINE)
_KEY = re.compile(r"^ *(\w+):.*? # (.+)$", re.MULTILINE)
_SETTINGS = {"trainer": TrainerSettings, "evaluate": EvaluateSettings}
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
    page = Page(sys.stdout)
    files = _Files((CONF, *([Path(extra)] if extra else [])), name)
    groups = files.groups()
    page.usage(name, about, f"{'[group=option ...] ' if groups else ''}[key=value ...] [flags]")
    page.examples(files.examples())
    # What was typed may bring other options along; without it, those of the YAML are chosen.
    composed = _composed(name, overrides, extra, schema) if overrides else None
    chosen = files.defaults() if composed is None else composed[1]
    if groups:
        page.heading("Groups", "group=option; * is chosen")
    for group in groups:
        page.group(group, files.meaning(group), files.options(group), chosen.get(group))
    sys.stdout.flush()
    config, choices = composed or _composed(name, overrides, extra, schema)
    page.heading("Keys", "key=value")
    for key, node in config.items():
        if isinstance(node, dict):
            option = choices.get(str(key))
            notes = files.notes(str(key), option) if option else files.notes("", name)
            notes |= _docstrings(_SETTINGS.get(str(key)))
            page.keys(str(key), node, notes, option=option)
    plain = {key: node for key, node in config.items() if not isinstance(node, dict)}
    shown = {key: node for key, node in plain.items() if key not in groups}
    page.keys("", shown, _docstrings(schema) | files.notes("", name))
    page.heading("Flags")
    page.rows(list(_FLAGS.items()))


def print_plain_help(
    name: str,
    about: str,
    takes: str,
    *,
    examples: Sequence[tuple[str, str]],
    keys: Sequence[tuple[str, str]],
) -> None:
    """Prints what a command without a config takes, in the same form.

    Arguments:
        name: Of the command.
        about: What it does.
        takes: What stands behind it, in short.
        examples: Arguments to begin with, each with what they do.
        keys: What may be set, each with what it is.
    """
    page = Page(sys.stdout)
    page.usage(name, about, takes)
    page.examples([(f"{as_typed(name)} {given}".rstrip(), said) for given, said in examples])
    page.heading("Keys")
    page.rows(keys)


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
    """The first lines of what stands below the fields of a dataclass, and choices of enums."""
    if cls is None:
        return {}
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError):
        tree = None  # Installed without its source.
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    found = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value)
            found[ast.unparse(field.target)] = _first_paragraph(text)
    for key, hint in get_type_hints(cls).items():
        if isinstance(hint, type) and issubclass(hint, Enum):
            said = found.get(key) or _first_paragraph(hint.__doc__ or "")
            found[key] = f"{' | '.join(hint.__members__)}: {said}"
    return found


def _first_paragraph(text: str) -> str:
    """In one line, without marks of code, which a terminal does not show as such."""
    paragraph = inspect.cleandoc(text).partition("\n\n")[0]
    return " ".join(paragraph.replace("``", "").split()).rstrip(".")


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
        # Of a group inside of another, where an option of that one chooses from it.
        outer, _, inner = group.rpartition("/")
        for stem, _ in self.options(outer) if outer else ():
            for found, _, comment in _CHOICE.findall(self._text(outer, stem)):
                if found == inner and comment:
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
