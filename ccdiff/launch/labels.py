"""Labels on a command line mean what was typed, not what Hydra's grammar makes of it."""

from ccdiff.launch.texts import is_hydras, parts, quoted

__all__ = ["label_arguments"]


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
    return f"{key}={','.join(map(_as_text, parts(value)))}"


def _as_text(value: str) -> str:
    value = value.strip()
    if value.startswith("[") and value.endswith("]"):
        inside = value[1:-1]
        return f"[{','.join(map(_as_text, parts(inside)))}]" if inside.strip() else value
    return value if is_hydras(value) else quoted(value)
