"""Seconds from the start of a process to its first optimizer step done, and to an answer.

``uv run --group bench python -m tests.benchmarks.first_step`` runs ``train.py`` as it is, and for
each peer a script that imports it, builds its network and takes one step on noise of the same
size, without data, config, checks or logs. Everyone is a process of its own, in turns.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.benchmarks.peers import Peer

ROOT = Path(__file__).parents[2]
SIZE, BATCH = 8, 128
DONE = "step 1"
TRAIN = (sys.executable, str(ROOT / "train.py"))


def until(told: str, command: Sequence[str], *, cwd: Path) -> float:
    """Seconds until a command prints what is asked for; it is ended then."""
    env = {"WANDB_MODE": "offline", **os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=cwd, env=env, **pipes) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if told in line:
                taken = time.perf_counter() - started
                process.kill()
                return taken
    raise RuntimeError(f"{command} never said {told!r}:\n{''.join(lines)}")


def until_its_end(command: Sequence[str], *, cwd: Path) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - started


def take_step(peer: "Peer") -> None:
    """One step of a peer on noise, with its average."""
    import torch

    from tests.benchmarks.peers import step

    step(peer, torch.rand(BATCH, 1, SIZE, SIZE), bf16=False)()
    print(DONE, flush=True)


def ddpm_pytorch() -> None:
    """What a user of denoising-diffusion-pytorch writes, its trainer left out."""
    from tests.benchmarks.peers import ddpm_diffusion, ddpm_peer

    take_step(ddpm_peer(ddpm_diffusion(SIZE)))


def diffusers() -> None:
    """What a user of diffusers writes, with neither accelerate nor data."""
    from tests.benchmarks.peers import diffusers_peer, diffusers_unet

    take_step(diffusers_peer(diffusers_unet(SIZE)))


def azula() -> None:
    """What a user of azula writes, data left out."""
    from tests.benchmarks.peers import azula_denoiser, azula_peer

    take_step(azula_peer(azula_denoiser()))


PEERS = {"denoising-diffusion-pytorch": ddpm_pytorch, "diffusers": diffusers, "azula": azula}


def timers(folder: Path, overrides: Sequence[str]) -> dict[str, Callable[[int], float]]:
    """What gives the seconds of each case in a round."""

    def trained(*more: str) -> Callable[[int], float]:
        def timed(i: int) -> float:
            name = "-".join(more).replace("=", "-") or "plain"
            run = f"hydra.run.dir={folder}/{name}-{i}"
            command = [*TRAIN, run, "trainer.log_every=1", *more, *overrides]
            return until(f"{DONE}/", command, cwd=folder)

        return timed

    def written(name: str) -> Callable[[int], float]:
        command = [sys.executable, "-m", "tests.benchmarks.first_step", "--only", name]
        return lambda i: until(DONE, command, cwd=folder)

    def answered(*more: str) -> Callable[[int], float]:
        return lambda i: until_its_end([*TRAIN, *more], cwd=folder)

    return {
        "python train.py": trained(),
        "python train.py tracker=none": trained("tracker=none"),
        **{f"a script with {name}": written(name) for name in PEERS},
        "python train.py --help": answered("--help"),
        "python train.py --cfg job": answered("--cfg", "job"),
    }


def measured(cases: dict[str, Callable[[int], float]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each case in each round, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for i in range(rounds):
        for name in list(cases)[:: 1 if i % 2 else -1]:
            taken[name].append(cases[name](i))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=PEERS, help="take one step with a peer, and say so")
    parser.add_argument("--cases", nargs="*", help="parts of the names of the cases to time")
    parser.add_argument("overrides", nargs="*", help="of ccdiff's config, as for train.py")
    args = parser.parse_intermixed_args()
    if args.only:
        PEERS[args.only]()
        return
    from tests.benchmarks.kit import durations, machine

    with tempfile.TemporaryDirectory() as name:
        cases = timers(Path(name), args.overrides)
        if args.cases:
            cases = {k: run for k, run in cases.items() if any(part in k for part in args.cases)}
        taken = measured(cases, rounds=args.rounds)
    print(f"{machine()}\n\n{durations(taken, each='process', unit='s')}")


if __name__ == "__main__":
    main()
