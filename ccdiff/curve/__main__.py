"""Quality against cost: ``python -m ccdiff.curve run=latest sampler=ddim,heun steps=5,10,20``.

Or over averaged weights and guidance: ``ema=0.05,0.1,0.15 guidance.scale=1,1.5,2``.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from ccdiff.config import schema
from ccdiff.launch.entry import command
from ccdiff.settings import Precision

__all__ = ["CurveConfig", "list_arguments", "main"]

_SCALE = "guidance.scale"
_LISTS = {
    "sampler": "samplers",
    "samplers": "samplers",
    "steps": "steps",
    "seeds": "seeds",
    "ema": "widths",
    _SCALE: "scales",
}


@dataclass
class CurveConfig:
    """What ``python -m ccdiff.curve`` takes; conf/curve.yaml says what each key means."""

    extractor: Any = MISSING
    threshold: Any = MISSING
    guidance: Any = MISSING
    schedule: Any = None
    run: str | None = None
    samplers: list[str] = MISSING
    sampler_overrides: list[str] = MISSING
    steps: list[int] = MISSING
    seeds: list[int] = MISSING
    num_per_label: int = MISSING
    reference: str = MISSING
    reference_steps: int = MISSING
    solution: str | None = None
    solution_steps: int = MISSING
    widths: list[str] = MISSING
    scales: list[float] = MISSING
    out: str | None = None
    format: str = MISSING
    weights: str = MISSING
    batch_size: int = MISSING
    device: str = MISSING
    precision: Precision = Precision.auto
    cache: str = MISSING
    data: schema.MovedData = field(default_factory=schema.MovedData)


def list_arguments(arguments: list[str]) -> list[str]:
    """Rewrites ``sampler=a,b steps=5,10`` to lists, since to Hydra a comma means a sweep.

    ``sampler/grid=...`` and ``sampler.<setting>=...`` are collected, for each of the samplers.
    With ``ema=...`` or several ``guidance.scale=...`` it is a map, by the run's own sampler unless
    one is named.
    """
    rewritten, overrides = [], []
    if _is_map(arguments):
        rewritten = ["samplers=[]", "steps=[]"]
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in _LISTS and (key != _SCALE or "," in value):
            rewritten.append(f"{_LISTS[key]}=[{value.strip('[]')}]")
        elif equals and key.startswith(("sampler/", "sampler.")):
            quoted = argument.replace("\\", "\\\\").replace("'", "\\'")
            overrides.append(f"'{quoted}'")
        else:
            rewritten.append(argument)
    if overrides:
        rewritten.append(f"sampler_overrides=[{','.join(overrides)}]")
    return rewritten


def _is_map(arguments: list[str]) -> bool:
    given = [argument.partition("=")[::2] for argument in arguments]
    return any(
        key in ("ema", "widths") or (key == _SCALE and "," in value) for key, value in given
    )


main = command(
    "curve",
    about="Compares quality against cost, over samplers and numbers of steps.",
    job="ccdiff.curve.job:run_curve",
    schema=CurveConfig,
    rewrite=list_arguments,
)

if __name__ == "__main__":
    main()
