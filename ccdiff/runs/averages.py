"""Averages of weights as a checkpoint of ``ema=posthoc`` keeps them."""

from collections.abc import Mapping

from torch import Tensor

__all__ = ["WIDEST", "tracked_weights"]

WIDEST = 12**-0.5
"""The width of the plain mean of all steps, which no power function exceeds."""
_AVERAGE = "ema_model."


def tracked_weights(state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The averaged weights of each tracked width, from what a checkpoint keeps under ``ema``."""
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        place, name = 0, key
        if key.startswith("others."):
            _, number, name = key.split(".", 2)
            place = 1 + int(number)
        if name.startswith(_AVERAGE):
            found.setdefault(place, {})[name.removeprefix(_AVERAGE)] = value
    return [found[place] for place in sorted(found)]
