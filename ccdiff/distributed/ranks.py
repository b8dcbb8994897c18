"""Which of many processes this one is, and what is its share.

It stands in the environment: ``torchrun`` puts it there, and for the tasks of a SLURM job step
:func:`adopt_slurm` does. Rank 0 is the main process, which alone writes files.
"""

import os
from collections.abc import Mapping, MutableMapping

__all__ = [
    "adopt_slurm",
    "adopted_slurm",
    "is_main",
    "local_rank",
    "processes_here",
    "rank",
    "slice_of",
    "world_size",
]

_ADOPTED = "CCDIFF_ADOPTED_SLURM"


def rank() -> int:
    """The number of this process among all, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """The number of this process among those on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def processes_here() -> int:
    """How many processes share this machine; where nobody says it, as many as there are."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def is_main() -> bool:
    """Whether this is the process that writes files and logs."""
    return rank() == 0


def slice_of(n: int) -> slice:
    """The part of ``range(n)`` that is this process's: contiguous, in the order of ranks."""
    return slice(n * rank() // world_size(), n * (rank() + 1) // world_size())


def adopt_slurm(environment: MutableMapping[str, str] = os.environ) -> None:
    """Tells the tasks of a SLURM job step who they are, as torchrun would have.

    Arguments:
        environment: Read and completed; left as it is outside of a step of several tasks.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if "WORLD_SIZE" in environment or tasks == "1":
        return
    # Steps of one job may run side by side, so each has a port of its own.
    job, step = (int(environment.get(f"SLURM_{key}_ID", "0")) for key in ("JOB", "STEP"))
    environment["WORLD_SIZE"] = tasks
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment[_ADOPTED] = "1"
    environment.setdefault("MASTER_ADDR", _first_host(environment))
    environment.setdefault("MASTER_PORT", str(20000 + (job * 16 + step) % 10000))


def adopted_slurm() -> bool:
    """Whether SLURM has started this process, and not torchrun."""
    return _ADOPTED in os.environ


def _first_host(environment: Mapping[str, str]) -> str:
    """``gpu-03`` of ``gpu-[03-05,09],login1``: where rank 0 runs."""
    nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
    before, bracket, within = nodes.partition("[")
    if not bracket or "," in before:
        return nodes.split(",")[0]
    first, _, after = within.partition("]")
    return before + first.split(",")[0].split("-")[0] + after.split(",")[0]
