"""Decoding a whole source on all cores, in steps that survive a kill.

Everything is written to a folder with ``.partial`` at the end of its name, which is renamed when
it is whole. After each step of some hundred images their pixels are on disk, then a line in the
journal says so; a later attempt cuts off what the journal does not know of and goes on.
"""

import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
from PIL import Image, features
from tqdm import tqdm

from ccdiff.data.files.decode import BadImage, PixelSettings, decode, gray_max
from ccdiff.data.files.source import Source
from ccdiff.data.files.twins import Twins
from ccdiff.errors import UserError
from ccdiff.system.atomic import write_text, write_whole
from ccdiff.system.console import beside_bars

__all__ = [
    "HEADER_BYTES",
    "Bad",
    "build",
    "file_sha256",
    "write_labels",
    "write_manifest",
]

log = logging.getLogger(__name__)

HEADER_BYTES = 128
_STEP_IMAGES = 256
_STEP_BYTES = 64 << 20
_PART_BYTES = 16 << 20
_EIGHT_BIT_ENDINGS = (".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".gif", ".bmp")


@dataclass(frozen=True)
class Bad:
    """An image that cannot be used: its number in the source, its name, and why."""

    index: int
    file: str
    why: str

    def __str__(self) -> str:
        # Names may hold bytes that no terminal can show.
        return f"{ascii(self.file)[1:-1]}: {self.why}"


@dataclass(frozen=True)
class _Progress:
    """How far preparation has come.

    Arguments:
        done: Images seen.
        rows: Images kept, which lie in the file.
        train: Of those, for training.
        enlarged: Of those, smaller in the source.
        bad: Images not kept.
        twins: Held-out images not kept since a training image has their pixels, by number.
    """

    done: int = 0
    rows: int = 0
    train: int = 0
    enlarged: int = 0
    bad: tuple[Bad, ...] = ()
    twins: tuple[int, ...] = ()

    def plus(self, step: "_Progress") -> "_Progress":
        """After one more step."""
        pairs = ((getattr(self, f.name), getattr(step, f.name)) for f in fields(self))
        return _Progress(*(mine + more for mine, more in pairs))

    def to_line(self) -> bytes:
        """For the journal."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> "_Progress":
        """From the journal."""
        values = json.loads(line)
        bad = tuple(Bad(**bad) for bad in values["bad"])
        return _Progress(**{**values, "bad": bad, "twins": tuple(values["twins"])})


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
            file.write(_header((progress.rows, *settings.shape)))
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
            "versions": _versions(),
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
) -> _Progress:
    """Brings pixels and journal to the end."""
    size = max(1, min(_STEP_IMAGES, _STEP_BYTES // settings.row_bytes))
    with (
        (folder / "journal.jsonl").open("a+b") as journal,
        (folder / "images.npy").open("a+b") as pixels,
        ThreadPoolExecutor(_num_cores()) as pool,
        warnings.catch_warnings(),
    ):
        # Decoders warn of what they then read well; what they cannot read is counted.
        warnings.simplefilter("ignore")
        Image.init()  # Plugins register themselves, which two threads must not do at once.
        progress = _recover(journal, pixels, settings.row_bytes)
        settings = _with_white(source, settings, pool)
        twins = Twins(
            source,
            trained=_rows(folder / "images.npy", progress.train, settings.row_bytes),
            left_out=(*progress.twins, *(bad.index for bad in progress.bad)),
        )
        _check_room(folder, (len(order) - progress.done) * settings.row_bytes)
        log.info("preparing images %d to %d of %s", progress.done, len(order), source.title)
        bar = tqdm(total=len(order), initial=progress.done, unit="image", disable=None)
        with bar, beside_bars():
            for start in range(progress.done, len(order), size):
                numbers = order[start : start + size].tolist()
                readers = [source.images.reader(i) for i in numbers]
                outcomes = list(pool.map(partial(_decode_one, settings), readers))
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


def _decode_one(
    settings: PixelSettings, read: Callable[[], bytes | np.ndarray]
) -> tuple[np.ndarray, bool] | BadImage:
    try:
        return decode(read(), settings)
    except BadImage as error:
        return error


def _keep(
    source: Source,
    numbers: Sequence[int],
    outcomes: Sequence[tuple[np.ndarray, bool] | BadImage],
    pixels: BinaryIO,
    twins: Twins,
) -> _Progress:
    """Appends what could be decoded to the file and counts everything."""
    rows = train = enlarged = 0
    bad, left_out = [], []
    for i, outcome in zip(numbers, outcomes, strict=True):
        if isinstance(outcome, BadImage):
            bad.append(Bad(i, source.images.names[i], str(outcome)))
            continue
        image, was_smaller = outcome
        if twins.has(i, image):
            left_out.append(i)
            continue
        pixels.write(image.data)
        rows += 1
        train += not source.heldout[i]
        enlarged += was_smaller
    return _Progress(len(numbers), rows, train, enlarged, tuple(bad), tuple(left_out))


def _recover(journal: BinaryIO, pixels: BinaryIO, row_bytes: int) -> _Progress:
    """What an earlier attempt completed; cuts both files off after it."""
    progress = _Progress()
    end = 0
    size = os.fstat(pixels.fileno()).st_size
    journal.seek(0)
    for line in journal:
        try:
            after = progress.plus(_Progress.from_line(line))
        except (ValueError, TypeError, KeyError):
            break
        if HEADER_BYTES + after.rows * row_bytes > size:
            break
        progress, end = after, end + len(line)
    journal.truncate(end)
    # The header is known at the end only.
    pixels.truncate(HEADER_BYTES + progress.rows * row_bytes)
    return progress


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


def _header(shape: tuple[int, ...]) -> bytes:
    """Of a ``.npy`` file of uint8 (NumPy's format 1.0), padded to a fixed length."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    magic = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + text.encode().ljust(HEADER_BYTES - 11) + b"\n"


def write_labels(folder: Path, labels: np.ndarray) -> str:
    """Writes ``labels.npy`` whole or not at all; returns the SHA-256 of the file."""
    content = BytesIO()
    np.save(content, labels)
    write_whole(folder / "labels.npy", lambda file: file.write(content.getvalue()))
    return hashlib.sha256(content.getvalue()).hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes ``manifest.json`` whole or not at all."""
    text = json.dumps(manifest, indent=1) + "\n"
    write_text(folder / "manifest.json", text)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file of up to 16 MiB; of larger ones that of the hashes of such parts.

    Parts are hashed on all cores.
    """
    starts = range(0, max(1, path.stat().st_size), _PART_BYTES)
    with ThreadPoolExecutor(_num_cores()) as pool:
        parts = list(pool.map(partial(_part_sha256, path), starts))
    return (parts[0] if len(parts) == 1 else hashlib.sha256(b"".join(parts)).digest()).hex()


def _part_sha256(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(_PART_BYTES)).digest()


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _versions() -> dict[str, str | None]:
    """Of everything that has a say in a pixel."""
    try:
        own = version("ccdiff")
    except PackageNotFoundError:  # run from its folder, without being installed
        own = None
    codecs = ("libjpeg_turbo", "webp", "libtiff", "zlib")
    found = {"ccdiff": own, "numpy": np.__version__, "pillow": PIL.__version__}
    return {**found, **{name: features.version(name) for name in codecs}}


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
