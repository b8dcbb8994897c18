"""Texts on a command line are what was typed, not what Hydra's grammar makes of it.

``run=12e4567`` is read as infinity, ``name=1.10`` as 1.1, ``out=1_000`` as 1000, and letters
beyond a to z are refused: a folder of that name would never be found.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

__all__ = ["is_hydras", "parts", "quoted", "read_otherwise", "text_arguments", "text_keys"]

_QUOTES = "'\""
_CALL = re.compile(rf"({'|'.join(create_functions().functions)})\s*\(")
_OPENING, _CLOSING = "[({", "])}"
_OF_HYDRA = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name")


def text_arguments(arguments: Sequence[str], schema: type) -> list[str]:
    """Puts into quotes what would not arrive as it was typed, where a command takes text.

    What is in quotes, null, lists, sweeps such as ``choice(a,b)`` and ``${...}`` stay as they are.

    Arguments:
        arguments: Of the command line.
        schema: Dataclass of the keys of the command.
    """
    keys = {*text_keys(schema), *_OF_HYDRA}
    return [_as_typed(argument, keys) for argument in arguments]


def text_keys(schema: type, *, within: str = "") -> Iterator[str]:
    """The dotted keys of a dataclass, and of those inside it, that take text and nothing else."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        hint = hints[field.name]
        if is_dataclass(hint) and isinstance(hint, type):
            yield from text_keys(hint, within=f"{within}{field.name}.")
        elif hint in (str, str | None):
            yield f"{within}{field.name}"


def read_otherwise(overrides: Iterable[str]) -> dict[str, str]:
    """What was typed for each key that the grammar has made a number or a boolean of."""
    found = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if equals and not is_hydras(value) and not isinstance(_read(value), str | None):
            found[key.lstrip("+")] = value
    return found


def _as_typed(argument: str, keys: set[str]) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in keys:
        return argument
    return f"{key}={','.join(map(_kept, parts(value)))}"


def _kept(value: str) -> str:
    typed = value.strip()
    if is_hydras(typed) or typed.startswith("[") or typed.lower() == "null":
        return value
    return value if _read(typed) == typed else quoted(typed)


def is_hydras(value: str) -> bool:
    """Whether a value is to be read by the grammar: in quotes or braces, escaped, or a sweep."""
    return (
        value[:1] in ("", "{", *_QUOTES)
        or "\\" in value
        or "${" in value
        or _CALL.match(value) is not None
    )


def _read(value: str) -> object:
    """What the grammar makes of a value; None where it refuses it."""
    try:
        (override,) = OverridesParser.create().parse_overrides([f"key={value}"])
        read = None if override.is_sweep_override() else override.value()
    except (HydraException, ValueError):
        return None
    return read.text if isinstance(read, QuotedString) else read


def quoted(text: str) -> str:
    """A text as an override takes it."""
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


def parts(text: str) -> list[str]:
    """Parts between the commas that are in no quotes and in no brackets."""
    parts, depth, quote = [""], 0, ""
    previous = ""
    for c in text:
        if quote:
            quote = "" if c == quote and previous != "\\" else quote
        elif c in _QUOTES and not parts[-1].strip():
            # Only at the start of a part: an apostrophe within a name is none.
            quote = c
        elif depth == 0 and c == ",":
            parts.append("")
            previous = c
            continue
        elif c in _OPENING:
            depth += 1
        elif c in _CLOSING:
            depth -= 1
        parts[-1] += c
        previous = c
    return parts
