"""What feeding costs: training steps fed from a data set, against steps fed from one batch.

``uv run python -m tests.benchmarks.data_overhead`` prints the ratios, and the peak memory of a
process that reads a set from disk, and of one that reads a set four times as large.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ccdiff.data import Batches, ImageRows, Split, augment, to_float
from ccdiff.diffusion.conditioning import OneHot
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.objectives import Denoising
from ccdiff.diffusion.predictions import Noise
from ccdiff.diffusion.schedules import Cosine
from ccdiff.diffusion.times import UniformTimes
from ccdiff.diffusion.weightings import SNR
from tests.benchmarks.kit import Case, interleave, machine, table

SETS = {
    "mnist": {"num": 60_000, "shape": (1, 28, 28), "batch_size": 64, "patch": 2},
    "cifar10": {"num": 50_000, "shape": (3, 32, 32), "batch_size": 64, "patch": 2},
    "256 px on disk": {"num": 2_000, "shape": (3, 256, 256), "batch_size": 8, "patch": 8},
}


class Patches(nn.Module):
    """A network far lighter than any that is worth training, so that waiting shows."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 64, patch, stride=patch),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(64, channels, patch, stride=patch),
        )

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor) -> Tensor:
        return self.layers(x)


def on_disk(num: int, shape: tuple[int, ...], folder: Path) -> Split:
    """A set whose images are in a file."""
    path = folder / f"{num}.npy"
    header = {"descr": "|u1", "fortran_order": False, "shape": (num, *shape)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for i in range(num):
            file.write(np.full(shape, i % 255, np.uint8).tobytes())
    mapped = np.load(path, mmap_mode="c")
    rows = ImageRows(path, offset=mapped.offset, shape=shape)
    return Split(torch.from_numpy(mapped), torch.arange(num) % 3, rows)


def step_for(shape: tuple[int, ...], patch: int) -> Callable[[Tensor, Tensor], None]:
    """A training step from images and labels."""
    denoiser = Denoiser(
        Patches(shape[0], patch),
        conditioning=OneHot(label_names=["a", "b", "c"], dim=4),
        prediction=Noise(),
        schedule=Cosine(),
    )
    objective = Denoising(weighting=SNR(), times=UniformTimes())
    optimizer = torch.optim.AdamW(denoiser.parameters())
    generator = torch.Generator().manual_seed(0)

    def step(images: Tensor, y: Tensor) -> None:
        x0 = to_float(augment(images, generator))
        objective(denoiser, x0, y, generator).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare(name: str, folder: Path, rounds: int) -> str:
    num, shape, batch_size, patch = SETS[name].values()
    if name.endswith("on disk"):
        split, placement = on_disk(num, shape, folder), "disk"
    else:
        images = torch.zeros(num, *shape, dtype=torch.uint8)
        split, placement = Split(images, torch.arange(num) % 3), "auto"
    batches = Batches(split, batch_size=batch_size, seed=0, placement=placement)
    resident, step, numbers = batches.batch(0), step_for(shape, patch), count()
    cases = {
        "one batch": Case(run=lambda: step(*resident), images=batch_size),
        "the set": Case(run=lambda: step(*batches.batch(next(numbers))), images=batch_size),
    }
    return table(cases, interleave(cases, rounds=rounds, warmup=5))


def peak(num: int, folder: Path) -> None:
    """Reads a set of ``num`` images once from disk and prints the peak memory in MiB."""
    batches = Batches(on_disk(num, (3, 256, 256), folder), batch_size=8, seed=0, placement="disk")
    for i in range(num // 8):
        batches.batch(i)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--peak", type=int, help="only read so many images, and print the memory")
    parser.add_argument("--folder", type=Path, help="where files are written")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        if args.peak:
            peak(args.peak, folder)
            return
        print(machine())
        for title in SETS:
            print(f"\n{title}\n\n{compare(title, folder, args.rounds)}")
        for num in (2_000, 8_000):
            command = [sys.executable, "-m", __spec__.name, "--peak", str(num)]
            command += ["--folder", str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"\npeak memory, {num} images of 256 px on disk: {done.stdout.strip()} MiB")


if __name__ == "__main__":
    main()
