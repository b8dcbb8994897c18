"""Optimizers of torch without the seconds that they take to import ``torch.compile``."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

import torch
from torch.optim import Optimizer

__all__ = ["uncompiled"]

_HIDDEN = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
"""Methods of every optimizer that torch hides from its compiler, and imports it to do so."""

Make = Callable[..., Optimizer]


def uncompiled(make: Make) -> Make:
    """The same optimizer, which does not import torch's compiler where nothing else does.

    torch hides some methods of optimizers from its compiler, and imports all of it, 4 s, when the
    first of them is called. Here only networks are compiled, and methods need not be hidden.

    Arguments:
        make: An optimizer's class, or a ``functools.partial`` of one; anything else is left alone.

    Returns:
        What computes the same, bit for bit.
    """
    if isinstance(make, functools.partial):
        return functools.partial(uncompiled(make.func), *make.args, **make.keywords)
    kind: Any = make
    built_by_class = isinstance(kind, type) and issubclass(kind, Optimizer)
    return cast(Make, _plain(kind)) if built_by_class else make


@functools.cache
def _plain(kind: Any) -> Any:
    body: dict[str, Any] = {"__module__": kind.__module__, "__doc__": kind.__doc__}
    for name in _HIDDEN:
        method = getattr(kind, name)
        # What somebody has put in its place is theirs, decorators and all.
        if method is getattr(Optimizer, name):
            body[name] = inspect.unwrap(method)
    if kind.step.__module__.startswith("torch.optim."):
        body["step"] = _step(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), body)


def _step(bare: Callable[..., Any]) -> Callable[..., Any]:
    """A step of torch's with gradients as its own wrapper sets them."""

    def step(self: Optimizer, closure: Callable[[], float] | None = None) -> float | None:
        with torch.set_grad_enabled(self.defaults.get("differentiable", False)):
            loss: float | None = bare(self, closure)
        return loss

    return step
