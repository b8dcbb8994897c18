"""Decoding a whole source on all cores, in steps that survive a kill.

Everything is written to a folder with ``.partial`` at the end of its name, which is renamed when
it is whole. After each step of some hundred images their pixels are on disk, then a line in the
journal says so; a later attempt cuts off what the journal does not know of and goes on.
"""

import logging
import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from tqdm import tqdm

from ccdiff.data.files.decode import BadImage, PixelSettings, decode, gray_max
from ccdiff.data.files.journal import Bad, Progress, recover
from ccdiff.data.files.prepared_files import (
    HEADER_BYTES,
    file_sha256,
    header,
    num_cores,
    versions,
    write_manifest,
)
from ccdiff.data.files.source import Source
from ccdiff.data.files.twins import Twins, pixel_digest
from ccdiff.errors import UserError
from ccdiff.system.console import beside_bars

__all__ = ["build"]

log = logging.getLogger(__name__)

_STEP_IMAGES = 256
_STEP_BYTES = 64 << 20
_EIGHT_BIT_ENDINGS = (".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".gif", ".bmp")


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    """An image that can be used.

    Arguments:
        pixels: uint8 [C, H, W].
        enlarged: Whether the file's picture is smaller than that.
        digest: Of the pixels, where twins are looked for.
    """

    pixels: np.ndarray
    enlarged: bool
    digest: bytes


def build(
    source: Source,
    *,
    order: np.ndarray,
    settings: PixelSettings,
    identity: dict[str, Any],
    path: Path,
) -> None:
    """Decodes all images of ``source`` into the folder ``path``, which appears when it is whole.

    Arguments:
        source: What to decode.
        order: The order of its images in the file, training images first, int64 [N].
        settings: How to decode.
        identity: What names the copy; goes into the manifest.
        path: Where to.

    Raises:
        UserError: Where the disk has no room or cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.partial")
    try:
        unfinished.mkdir(exist_ok=True)
        progress = _decode_all(source, order, settings, unfinished)
        with (unfinished / "images.npy").open("r+b") as file:
            file.write(header((progress.rows, *settings.shape)))
            _sync(file)
        manifest = {
            **identity,
            "images": {
                "shape": (progress.rows, *settings.shape),
                "rows": progress.rows,
                "train": progress.train,
                "enlarged": progress.enlarged,
                "sha256": file_sha256(unfinished / "images.npy"),
            },
            "labels": None,
            "versions": versions(),
            "bad": [asdict(bad) for bad in progress.bad],
            "twins": list(progress.twins),
        }
        write_manifest(unfinished, manifest)
        (unfinished / "journal.jsonl").unlink()
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(
            f"cannot prepare images in {unfinished.absolute()}: {error.strerror or error}; pass "
            f"another folder by data.cache=<folder>"
        ) from error


def _decode_all(
    source: Source, order: np.ndarray, settings: PixelSettings, folder: Path
) -> Progress:
    """Brings pixels and journal to the end."""
    size = max(1, min(_STEP_IMAGES, _STEP_BYTES // settings.row_bytes))
    with (
        (folder / "journal.jsonl").open("a+b") as journal,
        (folder / "images.npy").open("a+b") as pixels,
        ThreadPoolExecutor(num_cores()) as pool,
        warnings.catch_warnings(),
    ):
        # Decoders warn of what they then read well; what they cannot read is counted.
        warnings.simplefilter("ignore")
        Image.init()  # Plugins register themselves, which two threads must not do at once.
        progress = recover(
            journal, pixels, header_bytes=HEADER_BYTES, row_bytes=settings.row_bytes
        )
        settings = _with_white(source, settings, pool)
        twins = Twins(
            source,
            trained=_rows(folder / "images.npy", progress.train, settings.row_bytes),
            left_out=(*progress.twins, *(bad.index for bad in progress.bad)),
        )
        _check_room(folder, (len(order) - progress.done) * settings.row_bytes)
        log.info("preparing images %d to %d of %s", progress.done, len(order), source.title)
        bar = tqdm(total=len(order), initial=progress.done, unit="image", disable=None)
        starts = range(progress.done, len(order), size)
        steps = (order[start : start + size].tolist() for start in starts)
        with bar, beside_bars(), _cancelling(pool):
            for numbers, outcomes in _one_ahead(pool, source, steps, settings):
                step = _keep(source, numbers, outcomes, pixels, twins)
                _sync(pixels)
                journal.write(step.to_line())
                _sync(journal)
                before, progress = progress.done, progress.plus(step)
                bar.update(len(numbers))
                # A line now and then, for logs that show no bar.
                if progress.done * 10 // len(order) > before * 10 // len(order):
                    log.info("%d of %d images prepared", progress.done, len(order))
    return progress


def _with_white(
    source: Source, settings: PixelSettings, pool: ThreadPoolExecutor
) -> PixelSettings:
    """The settings with the white that gray files of more than 8 bits have in this set.

    Files of 16 bits often hold 10, 12 or 14: what the largest value of all needs is taken.
    """
    may_be = [
        i
        for i, name in enumerate(source.images.names)
        if not name.lower().endswith(_EIGHT_BIT_ENDINGS)
    ]
    largest = 0
    for start in range(0, len(may_be), _STEP_IMAGES):
        readers = [source.images.reader(i) for i in may_be[start : start + _STEP_IMAGES]]
        largest = max(largest, *pool.map(_gray_max, readers))
    if not largest:
        return settings
    bits = next((bits for bits in (8, 10, 12, 14) if largest < 1 << bits), 16)
    log.info("gray files of 16 bits go up to %d: read as %d bits", largest, bits)
    return replace(settings, gray_max=(1 << bits) - 1)


def _gray_max(read: Callable[[], bytes | np.ndarray]) -> int:
    try:
        return gray_max(read())
    except BadImage:
        return 0


@contextmanager
def _cancelling(pool: ThreadPoolExecutor) -> Iterator[None]:
    """Leaves undone what was asked of ``pool`` and has not begun, however the block ends."""
    try:
        yield
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _one_ahead(
    pool: ThreadPoolExecutor,
    source: Source,
    steps: Iterable[list[int]],
    settings: PixelSettings,
) -> Iterator[tuple[list[int], Iterable[_Decoded | BadImage]]]:
    """What becomes of the images of each step, while those of the next are decoded already.

    So all cores decode while one writes.
    """
    work = partial(_decode_one, settings, hashed=source.drawn)
    ahead: deque[tuple[list[int], Iterable[_Decoded | BadImage]]] = deque()
    for numbers in steps:
        ahead.append((numbers, pool.map(work, [source.images.reader(i) for i in numbers])))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead


def _decode_one(
    settings: PixelSettings, read: Callable[[], bytes | np.ndarray], *, hashed: bool
) -> _Decoded | BadImage:
    try:
        pixels, enlarged = decode(read(), settings)
    except BadImage as error:
        return error
    digest = pixel_digest(pixels.data) if hashed else b""
    return _Decoded(pixels=pixels, enlarged=enlarged, digest=digest)


def _keep(
    source: Source,
    numbers: Sequence[int],
    outcomes: Iterable[_Decoded | BadImage],
    pixels: BinaryIO,
    twins: Twins,
) -> Progress:
    """Appends what could be decoded to the file and counts everything."""
    rows = train = enlarged = 0
    bad, left_out = [], []
    for i, outcome in zip(numbers, outcomes, strict=True):
        if isinstance(outcome, BadImage):
            bad.append(Bad(i, source.images.names[i], str(outcome)))
            continue
        if twins.has(i, outcome.digest):
            left_out.append(i)
            continue
        pixels.write(outcome.pixels.data)
        rows += 1
        train += not source.heldout[i]
        enlarged += outcome.enlarged
    return Progress(len(numbers), rows, train, enlarged, tuple(bad), tuple(left_out))


def _rows(path: Path, n: int, row_bytes: int) -> Iterator[bytes]:
    """The first ``n`` images of the file."""
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        for _ in range(n):
            yield file.read(row_bytes)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"the prepared images need {needed / 2**30:.1f} GiB, but {folder.parent.absolute()} "
            f"has {free / 2**30:.1f} GiB free: pass another folder by data.cache=<folder>, or a "
            f"smaller data.image_size"
        )


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
