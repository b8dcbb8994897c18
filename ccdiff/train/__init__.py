"""Training a run: ``python train.py``, and ``ccdiff.train(["trainer.steps=1000"])`` in Python."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """The package itself is called to train, as its name is what the function has to be called."""

    def __call__(self, overrides: Sequence[str] = (), *, out: str | Path | None = None) -> Any:
        """Trains a run; see :func:`ccdiff.train.calling.train`."""
        # torch takes seconds to import, and every command imports this package.
        from ccdiff.train.calling import train

        return train(overrides, out=out)


sys.modules[__name__].__class__ = _Callable
