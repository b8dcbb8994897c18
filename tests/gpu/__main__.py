"""``python -m tests.gpu [correct] [speed] [cifar10] [all] out=<folder> minutes=8``.

Exits with 1 where something failed, or the arguments are wrong; docs/gpu.md has the rest.
"""

import datetime
import importlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ccdiff.errors import UserError
from ccdiff.system.device import make_current, pick_device
from tests.benchmarks.kit import machine
from tests.gpu.bench import Bench

WEIGHTS = {"correct": 2.5, "speed": 3.5, "cifar10": 6.5}
"""The parts in order of value, and how the time is shared among those that are asked for."""


@dataclass(frozen=True)
class Arguments:
    """What was asked for."""

    parts: tuple[str, ...]
    out: Path
    minutes: float = 8.0
    miniature: bool = False
    device: str = "auto"
    carried: Path | None = None
    data: Path | None = None
    commit: str = ""
    only: tuple[str, ...] = ()


def parse(arguments: list[str]) -> Arguments:
    """Reads the command line; parts run in order of value, however they are named.

    Raises:
        SystemExit: Where it is wrong, with what is.
    """
    named, given = [], {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            named.append(key)
        elif key in ("carried", "data", "out"):
            given[key] = Path(value).expanduser().absolute()
        elif key == "minutes":
            try:
                given[key] = float(value)
            except ValueError:
                raise SystemExit(f"error: minutes must be a number, got {value!r}") from None
        elif key == "miniature":
            if value not in ("true", "false"):
                raise SystemExit(f"error: miniature must be true or false, got {value!r}")
            given[key] = value == "true"
        elif key in ("device", "commit"):
            given[key] = value
        elif key == "only":
            given[key] = tuple(word.strip() for word in value.split(",") if word.strip())
        else:
            raise SystemExit(f"error: no such argument: {key}; see docs/gpu.md")
    unknown = [name for name in named if name not in ("all", *WEIGHTS)]
    if unknown:
        raise SystemExit(f"error: no such part: {', '.join(unknown)}; known: {', '.join(WEIGHTS)}")
    if "out" not in given:
        raise SystemExit("error: where to? pass out=<folder>")
    for key in ("carried", "data"):
        if key in given and not given[key].is_dir():
            raise SystemExit(f"error: {key}={given[key]} is no folder")
    everything = not named or "all" in named
    parts = tuple(part for part in WEIGHTS if everything or part in named)
    return Arguments(parts=parts, **given)


def head_of(arguments: Arguments, device: torch.device) -> dict[str, str]:
    """What the figures are taken with."""
    found = {
        "device": machine(),
        "processors": f"{os.cpu_count()}, {torch.get_num_threads()} threads of torch",
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": arguments.commit or _commit(arguments.carried),
        "command": f"python -m tests.gpu {shlex.join(sys.argv[1:])}",
    }
    if device.type == "cuda":
        found["CUDA"] = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    if arguments.miniature:
        found["miniature"] = "yes: nothing here is a measurement"
    return found


def _commit(carried: Path | None) -> str:
    """Of this tree; where it travelled without its history, what was written down then."""
    if carried and (carried / "COMMIT").is_file():
        return (carried / "COMMIT").read_text().strip()
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def main(arguments: list[str]) -> int:
    """Runs the parts; returns the exit status."""
    asked = parse(arguments)
    try:
        device = pick_device(asked.device)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    if device.type == "cuda":
        # With its number, without which some functions of torch do not take it.
        device = torch.device("cuda", device.index or 0)
        make_current(device)
    torch.set_num_threads(1 if asked.miniature else min(4, torch.get_num_threads()))
    bench = Bench(
        device=device,
        out=asked.out,
        seconds=60 * asked.minutes,
        miniature=asked.miniature,
        carried=asked.carried,
        data=asked.data,
        head=head_of(asked, device),
        only=asked.only,
    )
    left = list(asked.parts)
    while left:
        share = WEIGHTS[left[0]] / sum(WEIGHTS[part] for part in left)
        part = left.pop(0)
        with bench.in_part(part, share):
            bench.case(_part(part), name=f"the part {part}", needs=0)
    failed = bench.failures()
    print(f"{len(bench.rows)} rows, {len(failed)} failed: {bench.out / 'table.md'}")
    for row in failed:
        print(f"  {row['part']}: {row['case']}: {row['outcome']} {row.get('told', '')}")
    return 1 if failed else 0


def _part(name: str) -> Callable[[Bench], None]:
    """Imports it only where it is asked for: one which cannot be does not end the others."""

    def run(bench: Bench) -> None:
        importlib.import_module(f"tests.gpu.{name}").run(bench)

    return run


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
