"""Configs that a run, a checkpoint or an export holds, read again; they may be a stranger's.

Such a config was written resolved, so there is nothing in it to be looked up: not a single
``${...}`` is resolved, which could name an environment variable.
"""

import re
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ccdiff.config.names import as_of_today
from ccdiff.errors import UserError

__all__ = ["check_resolved", "load_composed", "load_config", "load_plain", "read_config"]

# libyaml's, where PyYAML was built with it; it reads the same as Python's.
_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_BYTES = 1 << 24
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def read_config(text: str, *, source: object) -> DictConfig:
    """A whole resolved config, with the names of today.

    Arguments:
        text: As YAML.
        source: Where it is from, for messages.

    Raises:
        UserError: Where it is no config, or one that is not resolved.
    """
    config = _parsed(text, source)
    check_resolved(config, source=source)
    return OmegaConf.create(as_of_today(config))


def load_config(path: Path) -> DictConfig:
    """A whole resolved config from its file; raises as :func:`read_config` does."""
    return read_config(_text(path), source=path)


def load_plain(path: Path) -> dict[str, Any]:
    """The same as plain dicts and lists, and quicker, for whoever reads hundreds.

    Raises:
        UserError: As :func:`read_config` does.
    """
    text = _text(path)
    _refuse_aliases(text, path)
    try:
        config = yaml.load(text, Loader=_FAST)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is no config: it holds no keys")
    check_resolved(config, source=path)
    return as_of_today(config)


def load_composed(path: Path) -> DictConfig:
    """What Hydra composed for a run that failed before its config was resolved.

    Where a value is nothing but the name of another, it is that; any other ``${...}`` stays text.

    Raises:
        UserError: Where it is no config.
    """
    config = _parsed(_text(path), path)
    return OmegaConf.create(as_of_today(_referring(config, config)), flags={"readonly": True})


def check_resolved(config: Any, *, source: object) -> None:
    """Raises a UserError where plain nested values hold a ``${...}``, or are missing or not plain.

    Arguments:
        config: Dicts, lists, texts, numbers, booleans and null.
        source: Where it is from, for messages.
    """
    for key, value in _leaves(config, ""):
        if isinstance(value, str) and ("${" in value or value == "???"):
            raise UserError(
                f"{source}: {key} is {value!r}, which stands for another value; a saved config "
                f"holds values alone, and nothing in it is looked up: write the value instead"
            )
        if not isinstance(value, str | bool | int | float | None):
            raise UserError(f"{source}: {key} is {type(value).__name__}, which no config holds")


def _leaves(node: Any, key: str) -> Any:
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _leaves(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for i, child in enumerate(node):
            yield from _leaves(child, f"{key}[{i}]")
    else:
        yield key, node


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} is {path.stat().st_size / 2**20:.0f} MiB, and so no config")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _parsed(text: str, source: object) -> dict[str, Any]:
    """The plain values; ``${...}`` stays text."""
    try:
        _refuse_aliases(text, source)
        config = OmegaConf.create(text)
        if isinstance(config, DictConfig) and config:
            return cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    except UserError:
        raise
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise _damaged(source, error) from error
    raise UserError(f"{source} is no config: it holds no keys")


def _refuse_aliases(text: str, source: object) -> None:
    """They can make gigabytes of a few lines, and no config is saved with any."""
    if re.search(r"[&*]", text):
        try:
            tokens = list(yaml.scan(text))
        except yaml.YAMLError as error:
            raise _damaged(source, error) from error
        if any(isinstance(token, yaml.AliasToken | yaml.AnchorToken) for token in tokens):
            raise UserError(f"{source} holds YAML aliases, which no saved config has")


def _damaged(source: object, error: Exception) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{source} is no config, or is damaged: {reason}")


def _referring(node: Any, root: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _referring(child, root) for key, child in node.items()}
    if isinstance(node, list):
        return [_referring(child, root) for child in node]
    if not (isinstance(node, str) and (reference := _REFERENCE.fullmatch(node))):
        return node
    found: Any = root
    for part in reference[1].split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return node if isinstance(found, dict | None) else found
