"""Counting operations by torch's formulas, without its ``FlopCounterMode``.

That one hides from torch's compiler, and imports all of it to do so: 4 s.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["OperationCounter"]


class OperationCounter(TorchDispatchMode):
    """Within, counts the floating-point operations of convolutions, matrix products, attention.

    Attributes:
        total: So far; a multiplication and an addition are two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0


def _counted(
    counter: OperationCounter,
    func: Any,
    types: Sequence[type],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    kwargs = kwargs or {}
    out = func(*args, **kwargs)
    # With gradients, what comes here has been taken apart into what has formulas.
    if formula := flop_registry.get(func._overloadpacket):
        counter.total += int(formula(*args, **kwargs, out_val=out))
    return out


# Only what stands in the body of a class does torch hide from its compiler.
OperationCounter.__torch_dispatch__ = _counted  # type: ignore[method-assign,assignment]
