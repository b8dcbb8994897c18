"""Training batches by number, from wherever the images are held.

Batch ``i`` is a function of the seed and ``i`` alone, so exact resume needs no state: order and
balancing are pure functions of the seed and the epoch.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ccdiff.data.balance import balanced_order, weights_for
from ccdiff.data.core import Split, order
from ccdiff.distributed.ranks import processes_here
from ccdiff.errors import UserError
from ccdiff.system.device import free_bytes

__all__ = ["Batches"]

_PLACEMENTS = ("auto", "device", "memory", "disk")
# Of what is free: the model, its gradients and its activations need the rest.
_DEVICE_SHARE = 1 / 8
_MEMORY_SHARE = 1 / 4
_COPY_BYTES = 64 << 20
_NUM_AHEAD = 4


class Batches:
    """Training batches by number: batch ``i`` is a function of the seed and ``i`` alone.

    Epochs follow one another without a gap, so no image is dropped and any batch size will do.

    Where images are not held on the device, asking for batch ``i`` lets threads read the batches
    after it, so whoever asks for one batch after the other finds the next one there.

    Arguments:
        split: The images.
        batch_size: Images per batch.
        seed: Of the order.
        device: Where batches are wanted.
        placement: Where images are held: on the ``device``, in ``memory``, or on ``disk``, where
            they are read as they are needed; ``auto`` is the device where they fit, else wherever
            they are.
        balance: How often rare labels are drawn, ``none``, ``sqrt`` or ``class``: see
            :func:`~ccdiff.data.balance.weights_for`. An epoch is always as many draws as images.
        rows: Which rows of each batch are wanted, where several processes share it.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        placement: str = "auto",
        balance: str = "none",
        rows: slice = slice(None),
    ) -> None:
        device = torch.device(device)
        self.placement = _settle(placement, split, device)
        held_on = device if self.placement == "device" else torch.device("cpu")
        self._numbers = _Numbers(
            len(split),
            batch_size=batch_size,
            seed=seed,
            weights=weights_for(split.labels, balance),
            device=held_on,
            rows=rows,
        )
        self._device = device
        if self.placement != "disk":
            split = Split(_hold(split, held_on), split.labels.to(held_on))
        self._split = split
        self._ahead = None
        if self.placement != "device":
            self._ahead = _Ahead(_Reader(split, numbers=self._numbers, device=device))

    def indices(self, i: int) -> Tensor:
        """Which images batch ``i`` holds, int64 [batch_size], or those of its rows."""
        return self._numbers(i)

    def batch(self, i: int) -> tuple[Tensor, Tensor]:
        """Images [batch_size, C, H, W] as the split has them and labels, on the device."""
        if self._ahead is None:
            index = self.indices(i)
            return self._split.images[index], self._split.labels[index]
        images, labels, ready = self._ahead(i)
        if ready is not None:
            stream = torch.cuda.current_stream(images.device)
            stream.wait_event(ready)
            # They were allocated for the stream that copied them.
            images.record_stream(stream)
            labels.record_stream(stream)
        return images, labels


class _Numbers:
    """Which images each batch holds."""

    def __init__(
        self,
        n: int,
        *,
        batch_size: int,
        seed: int,
        weights: Tensor | None,
        device: torch.device,
        rows: slice,
    ) -> None:
        self.n = n
        self.batch_size = batch_size
        self.first, self.after, _ = rows.indices(batch_size)

        # Whole epochs are moved to the device: an index per batch would make it wait.
        @lru_cache(maxsize=4)
        def epoch_order(epoch: int) -> Tensor:
            if weights is None:
                return order(n, seed, epoch).to(device)
            return balanced_order(weights, seed, epoch).to(device)

        self.epoch_order = epoch_order

    def __call__(self, i: int) -> Tensor:
        start = i * self.batch_size + self.first
        parts, end = [], i * self.batch_size + self.after
        while start < end:
            epoch, position = divmod(start, self.n)
            part = self.epoch_order(epoch)[position : position + end - start]
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Ready(NamedTuple):
    """A batch on the device, and what to wait for before it is used there."""

    images: Tensor
    labels: Tensor
    event: torch.cuda.Event | None


class _Reader:
    """Reads batches and moves them to the device; called in threads."""

    def __init__(self, split: Split, *, numbers: _Numbers, device: torch.device) -> None:
        self.split = split
        self.numbers = numbers
        self.device = device
        # Copies overlap with computing only on a stream of their own, from pinned memory.
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, i: int) -> _Ready:
        index = self.numbers(i)
        shape = (len(index), *self.split.images.shape[1:])
        dtype = self.split.images.dtype
        images = torch.empty(shape, dtype=dtype, pin_memory=self.stream is not None)
        if self.split.rows is None:
            torch.index_select(self.split.images, 0, index, out=images)
        else:
            self.split.rows.read(index, images)
        labels = self.split.labels[index]
        if self.stream is None:
            return _Ready(images.to(self.device), labels.to(self.device), None)
        with torch.cuda.stream(self.stream):
            moved = images.to(self.device, non_blocking=True)
            named = labels.pin_memory().to(self.device, non_blocking=True)
            return _Ready(moved, named, self.stream.record_event())


class _Ahead:
    """Has the batches after the last one asked for read in threads."""

    def __init__(self, read: Callable[[int], _Ready]) -> None:
        self.read = read
        self.pool = ThreadPoolExecutor(_NUM_AHEAD, thread_name_prefix="batches")
        self.pending: dict[int, Future[_Ready]] = {}

    def __call__(self, i: int) -> _Ready:
        wanted = range(i, i + 1 + _NUM_AHEAD)
        for j in self.pending.keys() - set(wanted):
            self.pending.pop(j).cancel()
        for j in wanted:
            if j not in self.pending:
                self.pending[j] = self.pool.submit(self.read, j)
        return self.pending.pop(i).result()


def _settle(placement: str, split: Split, device: torch.device) -> str:
    """Where images will be held: ``device``, ``memory`` or ``disk``."""
    if placement not in _PLACEMENTS:
        raise UserError(
            f"data.placement must be one of {', '.join(_PLACEMENTS)}, got {placement!r}"
        )
    if placement == "disk" and split.rows is None:
        raise UserError(
            "data.placement=disk is for sets of image files; this one is in memory as a whole: "
            "use auto, device or memory"
        )
    if placement == "auto":
        if split.images.numel() <= _room(device):
            return "device"
        placement = "memory" if split.rows is None else "disk"
    return "device" if placement == "memory" and device.type == "cpu" else placement


def _room(device: torch.device) -> float:
    """Bytes of a device that images may take in this process."""
    if device.type == "cuda":
        return _DEVICE_SHARE * free_bytes(device)
    # GPUs are not shared; the memory of a machine is.
    return _MEMORY_SHARE * free_bytes(device) / processes_here()


def _hold(split: Split, device: torch.device) -> Tensor:
    """All images on ``device``."""
    if split.rows is None:
        return split.images.to(device)
    held = torch.empty(split.images.shape, dtype=torch.uint8, device=device)
    step = max(1, _COPY_BYTES // split.rows.row_bytes)
    for start in range(0, len(held), step):
        index = torch.arange(start, min(start + step, len(held)))
        part = torch.empty((len(index), *split.rows.shape), dtype=torch.uint8)
        split.rows.read(index, part)
        held[start : start + step] = part
    return held
