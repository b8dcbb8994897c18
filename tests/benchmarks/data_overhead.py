"""Training waits for no batch: steps fed from a data set against steps fed from one batch.

``pytest tests/benchmarks/data_overhead.py -s`` prints the ratios.
"""

import time
from statistics import median

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ccdiff.data import Batches, ImageRows, Split, augment, to_float
from ccdiff.objective import Objective
from ccdiff.times import UniformTimes
from ccdiff.weightings import SNR

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


@pytest.mark.parametrize("name", SETS)
def test_what_batches_cost(name, tmp_path, make_denoiser):
    num, shape, batch_size, patch = SETS[name].values()
    labels = torch.arange(num) % 3
    on_disk = name.endswith("on disk")
    if on_disk:
        path = tmp_path / "images.npy"
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(num, *shape))
        mapped = np.load(path, mmap_mode="c")
        rows = ImageRows(path, offset=mapped.offset, shape=shape)
        split = Split(torch.from_numpy(mapped), labels, rows)
    else:
        split = Split(torch.zeros(num, *shape, dtype=torch.uint8), labels)
    placement = "disk" if on_disk else "auto"
    batches = Batches(split, batch_size=batch_size, seed=0, placement=placement)
    resident = batches.batch(0)

    denoiser = make_denoiser(Patches(shape[0], patch))
    objective = Objective(weighting=SNR(), times=UniformTimes())
    optimizer = torch.optim.AdamW(denoiser.parameters())
    generator = torch.Generator().manual_seed(0)

    def step(images: Tensor, y: Tensor) -> None:
        x0 = to_float(augment(images, generator))
        objective(denoiser, x0, y, generator).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    def seconds(feed) -> float:
        started = time.perf_counter()
        step(*feed())
        return time.perf_counter() - started

    numbers = iter(range(10_000))
    feeds = {
        "set": lambda: batches.batch(next(numbers)),
        "resident": lambda: resident,
    }
    taken: dict[str, list[float]] = {"set": [], "resident": []}
    for i in range(103):
        # Alternating, so that whatever else the machine does hits both alike.
        for which in ("set", "resident") if i % 2 else ("resident", "set"):
            spent = seconds(feeds[which])
            if i >= 3:
                taken[which].append(spent)
    ratio = median(taken["set"]) / median(taken["resident"])
    print(f"{name}: {1e3 * median(taken['resident']):.1f} ms a step, times {ratio:.4f} with data")
