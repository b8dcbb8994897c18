"""Labels on a command line mean what was typed, not what Hydra's grammar makes of it."""

import re

__all__ = ["label_arguments"]

_QUOTES = "'\""
_CALL = re.compile(r"[\w.]+\(")
_OPENING, _CLOSING = "[({", "])}"


def label_arguments(arguments: list[str]) -> list[str]:
    """Rewrites ``labels=[1_0,true,Größe 38]`` so that each name arrives as the text that it is.

    Unquoted, the grammar reads ``1_0`` as 10, ``true`` and ``null`` as no text at all, and refuses
    letters beyond a to z. What is in quotes, and a lone ``null``, stay as they are.
    """
    return [_rewritten(argument) for argument in arguments]


def _rewritten(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") != "labels" or value.strip() in ("", "null"):
        return argument
    return f"{key}={','.join(map(_as_text, _parts(value)))}"


def _as_text(value: str) -> str:
    value = value.strip()
    if value.startswith("[") and value.endswith("]"):
        inside = value[1:-1]
        return f"[{','.join(map(_as_text, _parts(inside)))}]" if inside.strip() else value
    # Hydra's own: quoted, a dict, a sweep such as choice(a,b), or escaped by hand.
    if not value or value[0] in _QUOTES + "{" or "\\" in value or _CALL.match(value):
        return value
    quoted = value.replace("'", "\\'")
    return f"'{quoted}'"


def _parts(text: str) -> list[str]:
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
