"""The values of a config as the parameters of the class that they are for want them."""

import inspect
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object

from ccdiff.errors import UserError

__all__ = ["Refused", "arguments"]

_SPECIAL = ("_target_", "_partial_")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class Refused(UserError):
    """A value does not fit, at a key."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def arguments(
    node: dict[str, Any], made: Callable[..., Any], key: str, *, later: int
) -> dict[str, Any]:
    """The values of a node of a config, each of the type that its parameter is annotated with.

    Arguments:
        node: As plain dicts, lists and scalars, with its ``_target_``. A value that is text with
            ``${`` stays as it is, as it is not known yet.
        made: The class or function that ``_target_`` names.
        key: Where the node stands, such as ``sampler.grid``.
        later: How many of its first parameters are given later, by a call.

    Raises:
        Refused: For a value that cannot be read as its parameter's type.
        UserError: For a key that is no parameter, and a parameter without a value.
    """
    accepted = dict(inspect.signature(made).parameters)
    hints = _hints(made)
    own = {name: value for name, value in node.items() if name not in _SPECIAL}
    result = {name: node[name] for name in _SPECIAL if name in node}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for name, value in own.items():
        if name not in accepted and not open_ended:
            near = get_close_matches(str(name), accepted, n=1)
            hint = f"did you mean {key}.{near[0]}?" if near else f"it takes {', '.join(accepted)}"
            raise UserError(
                f"{node['_target_']} takes no {key}.{name}: {hint} "
                f"(~{key}.{name} leaves it out where an experiment set it for another {key})"
            )
        if name in list(accepted)[:later]:
            raise UserError(f"{key}.{name} is no setting: it is given by what the run has already")
        parameter = accepted.get(name)
        default = inspect.Parameter.empty if parameter is None else parameter.default
        hint = hints.get(name, type(default) if isinstance(default, bool | int | float) else Any)
        bounded = not (isinstance(default, float) and math.isinf(default))
        result[name] = _fitted(value, hint, f"{key}.{name}", finite=bounded)
    required = [
        name
        for name, p in accepted.items()
        if p.default is p.empty and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    for name in required[later:]:
        if name not in own:
            raise UserError(f"{node['_target_']} needs {key}.{name}, which is not given")
    return result


def _hints(made: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(made.__init__ if isinstance(made, type) else made)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):
        return {}


class _Unfit(Exception):
    """A value is not of the type; its text says which one is wanted."""


def _fitted(value: Any, hint: Any, key: str, *, finite: bool) -> Any:
    try:
        return _fit(value, hint, key, finite=finite)
    except _Unfit as unfit:
        raise Refused(key, f"{key} must be {unfit}, got {_shown(value)}") from None


def _shown(value: Any) -> str:
    """A value as it is written in a config."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _fit(value: Any, hint: Any, key: str, *, finite: bool) -> Any:
    """``value`` as a ``hint``."""
    if isinstance(value, str) and "${" in value:
        return value
    if isinstance(value, float) and math.isnan(value):
        raise _Unfit("a number")
    if isinstance(value, dict) and "_target_" in value:
        return _nested(value, hint, key)
    if hint in _SCALARS:
        return _SCALARS[hint](value, finite)
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _any_of(value, get_args(hint), key, finite=finite)
    if origin is Literal:
        if value not in get_args(hint):
            raise _Unfit(" or ".join(map(str, get_args(hint))))
        return value
    if isinstance(hint, type) and issubclass(hint, Enum):
        names = {str(member.value): member.value for member in hint}
        if str(value) not in names:
            raise _Unfit(" or ".join(names))
        return value
    if origin is not None and isinstance(origin, type):
        if issubclass(origin, Mapping):
            return _mapping(value, get_args(hint), key)
        if issubclass(origin, Sequence):
            return _sequence(value, origin, get_args(hint), key)
    if hint in (list, tuple, dict) and not isinstance(value, list if hint is tuple else hint):
        raise _Unfit("a list" if hint is not dict else "a dict")
    if _is_built(hint):
        raise _Unfit(f"a {hint.__name__}, by its _target_")
    if hint is not Any and isinstance(hint, type) and not isinstance(value, hint):
        raise _Unfit(f"a {hint.__name__}")
    return value


def _is_built(hint: Any) -> bool:
    """Whether a parameter takes an object that is built, and no plain value."""
    return isinstance(hint, type) and hint.__module__.startswith("ccdiff.")


def _nested(value: dict[str, Any], hint: Any, key: str) -> dict[str, Any]:
    """The arguments of an object in another one, such as a sampler's grid."""
    made = get_object(value["_target_"])
    wanted = [h for h in (hint, *get_args(hint)) if _is_built(h)]
    kind = made if isinstance(made, type) else _hints(made).get("return")
    if not (isinstance(kind, type) and wanted and issubclass(kind, tuple(wanted))):
        raise _Unfit(wanted[0].__name__ if wanted else "a plain value, without a _target_")
    return arguments(value, made, key, later=1 if value.get("_partial_") else 0)


def _any_of(value: Any, hints: Sequence[Any], key: str, *, finite: bool) -> Any:
    """As the first that fits as it is, else as the first that it can be read as."""
    told = []
    if value is None and type(None) in hints:
        return None
    rest = [hint for hint in hints if hint is not type(None)]
    found: list[Any] = []
    for hint in rest:
        try:
            fit = _fit(value, hint, key, finite=finite)
        except _Unfit as unfit:
            told.append(str(unfit))
            continue
        if type(fit) is type(value) and fit == value:
            return fit
        found.append(fit)
    if found:
        return found[0]
    null = ["null"] if type(None) in hints else []
    plain = [text for text in told if not text.endswith("Tensor")]
    raise _Unfit(" or ".join(dict.fromkeys([*plain, *null])))


def _sequence(value: Any, origin: type, hints: tuple[Any, ...], key: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _Unfit("a list, such as [1,2]")
    fixed = origin is tuple and hints and hints[-1] is not Ellipsis
    if fixed and len(value) != len(hints):
        raise _Unfit(f"a list of {len(hints)}")
    each: Iterator[Any] = iter(hints) if fixed else iter([(hints or (Any,))[0]] * len(value))
    return [
        _fitted(child, hint, f"{key}[{i}]", finite=False)
        for i, (child, hint) in enumerate(zip(value, each, strict=False))
    ]


def _mapping(value: Any, hints: tuple[Any, ...], key: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _Unfit("a dict, such as {a:1}")
    hint = hints[1] if len(hints) == 2 else Any
    return {
        name: _fitted(child, hint, f"{key}.{name}", finite=True) for name, child in value.items()
    }


def _bool(value: Any, finite: bool) -> bool:
    word = str(value).lower()
    if not isinstance(value, bool | int | str) or word not in (*_TRUE, *_FALSE):
        raise _Unfit("true or false")
    return word in _TRUE


def _int(value: Any, finite: bool) -> int:
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise _Unfit("a whole number")
    return int(value)


def _float(value: Any, finite: bool) -> float | int:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise _Unfit("a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unfit("a number")
    try:
        infinite = math.isinf(value) or math.isnan(value)
    except OverflowError:
        raise _Unfit("a number that fits into a float") from None
    if infinite and (finite or math.isnan(value)):
        raise _Unfit("a finite number")
    return value


def _str(value: Any, finite: bool) -> str:
    if not isinstance(value, str):
        raise _Unfit("text (in quotes, twice, where it looks like a number: 'key=\"1\"')")
    return value


def _none(value: Any, finite: bool) -> None:
    if value is not None:
        raise _Unfit("null")


_SCALARS: dict[Any, Callable[[Any, bool], Any]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    Path: _str,
    type(None): _none,
}
