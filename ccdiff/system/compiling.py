"""``torch.compile`` of the network under training."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ccdiff.errors import UserError
from ccdiff.settings import Compile

__all__ = ["compile_mode", "explaining_failure"]


def compile_mode(wanted: Compile, device: torch.device) -> str | None:
    """The mode of ``torch.compile``, or None for eager.

    ``auto`` is eager on a CPU, where convolutions take most of the time and the compiler calls the
    same ones.
    """
    if wanted is Compile.auto:
        pays = device.type == "cuda" and importlib.util.find_spec("triton") is not None
        wanted = Compile.default if pays else Compile.none
    return None if wanted is Compile.none else wanted.value


@contextmanager
def explaining_failure(key: str) -> Iterator[None]:
    """Raises UserError where the compiler fails, most often for want of a C++ compiler.

    Arguments:
        key: Of the config, by which compilation was asked for.
    """
    try:
        yield
    except Exception as error:
        if not any(kind.__module__ == "torch._dynamo.exc" for kind in type(error).__mro__):
            raise
        raise UserError(
            f"torch.compile failed: {str(error).splitlines()[0]}. Pass {key}=none, or "
            f"install what it lacks"
        ) from error
