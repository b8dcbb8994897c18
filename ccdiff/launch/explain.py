"""What is wrong with a command line, in words that say what to type instead."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ccdiff.launch.arguments import CONF, option_of

__all__ = ["explained"]

_OPTION = re.compile(r"Could not find '([^']+)'\s+Available options in '[^']+':((?:\s+\t\S+)+)")
_VALUE = re.compile(r"\n?(.*)\n\s+full_key: (\S+)")
_FEW = 5
_UNKNOWN = re.compile(r"Could not (?:override|append|delete)[^']*'([^'@]+)'")


def explained(error: Exception, arguments: Sequence[str], name: str) -> str:
    """The message of an error of composing, with the nearest real key where one is misspelt.

    Arguments:
        error: As Hydra, OmegaConf or the system raised it.
        arguments: Those that Hydra was given.
        name: Of the config.
    """
    message = "\n".join(filter(None, (str(error).strip(), _cause(error))))
    if isinstance(error, ValueError) and isinstance(error.__cause__, OSError):
        error = error.__cause__  # What logging says of it is that it cannot be configured.
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"{error.filename}: {error.strerror}. The folder of a run must be one that can be "
            f"made and written: pass another as hydra.run.dir"
        )
    if isinstance(error, OverrideParseException):
        return (
            f"{message}\nAn argument is key=value. Put a value with spaces, commas or letters "
            f"beyond a to z in quotes, twice: 'key=\"a value\"'"
        )
    if "Config group override must be a string" in message:
        empty = [f"; to choose none: ~{a[:-5]}" for a in arguments if a.endswith("=null")]
        return f"a group takes the name of an option ({message}){''.join(empty)}"
    if option := _OPTION.search(message):
        group, named = option[1].rpartition("/")[::2]
        there = option[2].split()
        near = get_close_matches(named, there, n=1)
        hint = f"did you mean {near[0]}?" if near else "which was meant?"
        return f"there is no {group}={named}: {hint} (there are: {', '.join(there)})"
    unknown = _UNKNOWN.search(message)
    if unknown is None and (value := _VALUE.search(message)):
        told = "it must not be null" if "is not Optional" in value[1] else value[1]
        return f"{value[2]}: {told}"
    if unknown is None:
        return message or type(error).__name__
    key = unknown[1]
    known = _keys(arguments, name, without=key)
    if key in known:
        return message
    near = _near(key, known)
    told = f"there is no key '{key}'"
    if others := _options_with(key):
        return f"{told} with the options chosen: it belongs to {', '.join(others)}"
    if near:
        return f"{told}: did you mean {' or '.join(near)}?"
    return f"{told}: --cfg job shows those there are"


def _options_with(key: str) -> list[str]:
    """The first options of the key's group that have it, such as ``data=folder``."""
    group, _, name = key.rpartition(".")
    folder = CONF / group.replace(".", "/")
    if not group or not folder.is_dir():
        return []
    setting = re.compile(rf"^{re.escape(name)}:", re.MULTILINE)
    files = sorted(folder.glob("*.yaml"))
    found = [file.stem for file in files if setting.search(file.read_text(encoding="utf-8"))]
    return [f"{group.replace('.', '/')}={stem}" for stem in found[:_FEW]]


def _cause(error: Exception) -> str:
    cause = error.__cause__
    return str(cause).strip() if isinstance(cause, OmegaConfBaseException) else ""


def _keys(arguments: Sequence[str], name: str, *, without: str) -> list[str]:
    """All keys of the config that is composed from the other arguments, as far as that goes."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    rest = [a for a in arguments if not a.startswith("-")]
    others = [a for a in rest if a.partition("=")[0].lstrip("+~") != without]
    folder = option_of(flags, "--config-path") or str(CONF)
    extra = option_of(flags, "--config-dir")
    if extra:
        others.append(f"hydra.searchpath=['file://{Path(extra).absolute()}']")
    for overrides in (others, []):
        GlobalHydra.instance().clear()
        try:
            with hydra.initialize_config_dir(str(Path(folder).absolute()), version_base="1.3"):
                config = hydra.compose(option_of(flags, "--config-name") or name, overrides)
            return list(_walk(OmegaConf.to_container(config, resolve=False), ""))
        except (HydraException, OmegaConfBaseException, ValueError):
            continue
    return []


def _walk(node: Any, within: str) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield f"{within}{name}"
            yield from _walk(value, f"{within}{name}.")


def _near(key: str, known: list[str]) -> list[str]:
    """The most likely ones: first by the whole key, then by its last part in any group."""
    if found := get_close_matches(key, known, n=1, cutoff=0.75):
        return found
    last = key.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == last]
    if same:
        return same[:3]
    parts = {other.rpartition(".")[2] for other in known}
    near = get_close_matches(last, parts, n=1, cutoff=0.6)
    return [other for other in known if near and other.rpartition(".")[2] == near[0]][:3]
