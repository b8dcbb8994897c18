"""Networks built without values, for weights that are loaded next."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["unfilled"]

_FILLS = {Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_, Tensor.clamp_}


@contextmanager
def unfilled() -> Iterator[None]:
    """Within, modules are made on the meta device, and nothing is drawn for their weights.

    A meta tensor has no values, but filling it by the means of torch is worked out in Python, for
    which seconds of torch.compile are imported.
    """
    with torch.device("meta"), _NoFilling():
        yield


class _NoFilling(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        tensor = args[0] if args else given.get("tensor")
        initial = getattr(func, "__module__", None) == "torch.nn.init" or func in _FILLS
        if initial and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor
        return func(*args, **given)
