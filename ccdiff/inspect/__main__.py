"""Shows what a data set holds: ``python -m ccdiff.inspect data=celebahq out=report``.

``python -m ccdiff.inspect schedule=cosine,linear`` shows schedules, ``part=embedding`` which noise
levels look alike to a network, and ``part=field run=latest`` what was learned of points of the
plane, beside what is exact.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from ccdiff.launch.entry import command

__all__ = ["CurvesConfig", "InspectConfig", "list_arguments", "main"]


@dataclass
class InspectConfig:
    """What ``python -m ccdiff.inspect`` takes."""

    data: Any = MISSING
    out: str | None = None
    """Folder to write to; None is a new one in inspection/."""
    images_per_label: int = 12
    """Columns of the contact sheet."""
    format: str = "png"
    """Of counts and of attributes that go together: png, svg or pdf."""
    conditioning: Any = None
    """Of no effect; here because data sets bring theirs along."""


@dataclass
class CurvesConfig:
    """With ``schedule=`` or ``part=``: conf/inspect_curves.yaml says what each key means."""

    part: str = MISSING
    schedules: list[str] = field(default_factory=list)
    density: str = MISSING
    run: str | None = None
    label: str | None = None
    out: str | None = None
    format: str = MISSING


def list_arguments(arguments: list[str]) -> list[str]:
    """Rewrites ``schedule=a,b`` to a list, since to Hydra a comma means a sweep.

    And ``times=``, which is a name here, and not the option of a group.
    """
    rewritten = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "schedule":
            argument = f"schedules=[{value.strip('[]')}]"
        rewritten.append(f"density={value}" if key == "times" else argument)
    return rewritten


_inspect = command(
    "inspect",
    about="Shows what a data set holds.",
    job="ccdiff.inspect.job:run_inspection",
    schema=InspectConfig,
)
_picture = command(
    "inspect_curves",
    about="Shows schedules, or which noise levels look alike to a network.",
    job="ccdiff.inspect.curves:run_picturing",
    schema=CurvesConfig,
    rewrite=list_arguments,
)


def main() -> None:
    """Looks at a data set; with ``schedule=`` or ``part=``, at these."""
    curves = any(argument.startswith(("schedule=", "part=")) for argument in sys.argv[1:])
    (_picture if curves else _inspect)()


if __name__ == "__main__":
    main()
