"""How a user types a command: ``python train.py`` in a clone, ``ccdiff train`` once installed."""

from pathlib import Path

__all__ = ["as_typed"]

_ROOT = Path(__file__).parents[2]
_SCRIPTS = ("train", "sample")


def as_typed(command: str) -> str:
    """The words before the arguments.

    Arguments:
        command: Such as ``train`` or ``compare``.
    """
    if not (_ROOT / "train.py").is_file():
        return f"ccdiff {command}"
    return f"python {command}.py" if command in _SCRIPTS else f"python -m ccdiff.{command}"
