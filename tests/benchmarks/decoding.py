"""From JPEG files to prepared pixels: speed, how far pixels are off, and memory.

``uv run python -m tests.benchmarks.decoding --files FOLDER`` takes every JPEG of the folder that
is at least 1024 px high and wide, brings the square in its middle to 1024 px, as the sets of
faces were made, and that to 256 px on one thread: exactly, fast, and by torchvision's
``decode_image`` with an antialiased resize. It prints how many gray levels each is off from the
exact ones on average. Without a folder it takes scikit-learn's two photographs. Debian's packages
mate-backgrounds and lomiri-wallpapers-16.04 hold 27 photographs that are large enough.

``--prepare 2000`` prepares so many images on one core and on all, ``--memory 2000 20000`` so many
one after the other, each in a process of its own, and prints the most that it had resident.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ccdiff.data import Folder
from ccdiff.data.files.decode import PixelSettings, decode
from tests.benchmarks.kit import Case, durations, interleave, machine

SIDE = 1024
QUALITY = 92

Way = Callable[[bytes], np.ndarray]


def encoded(picture: Image.Image) -> bytes:
    """A JPEG with colour at half resolution, as cameras write it."""
    content = BytesIO()
    picture.save(content, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return content.getvalue()


def from_folder(folder: Path) -> list[bytes]:
    """Squares of 1024 px of the photographs that are there, each of them made smaller to it."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (".jpg", ".jpeg"):
            continue
        with Image.open(path) as photograph:
            side = min(photograph.size)
            if side < SIDE:
                continue
            left, top = (photograph.width - side) // 2, (photograph.height - side) // 2
            square = photograph.convert("RGB").crop((left, top, left + side, top + side))
        found.append(encoded(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    if not found:
        sys.exit(f"{folder} holds no JPEG of {SIDE} px")
    return found


def photographs(n: int) -> list[bytes]:
    """scikit-learn's two photographs at their own resolution, repeated as in a mirror."""
    from sklearn.datasets import load_sample_images

    found = []
    for i in range(n):
        photograph = load_sample_images().images[i % 2]
        tall = np.concatenate([photograph, photograph[::-1], photograph])
        wide = np.concatenate([tall, tall[:, ::-1]], axis=1)
        top, left = 16 * (i // 2) % 200, 16 * (i // 2) % 200
        found.append(encoded(Image.fromarray(wide[top : top + SIDE, left : left + SIDE])))
    return found


def by_torchvision(data: bytes, *, wanted: int) -> np.ndarray:
    """uint8 [3, wanted, wanted] in the usual way."""
    from torchvision.io import decode_image
    from torchvision.transforms.v2.functional import resize

    image = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return resize(image, [wanted, wanted], antialias=True).numpy()


def by_us(data: bytes, *, how: str, wanted: int) -> np.ndarray:
    """uint8 [3, wanted, wanted] by ``data.decode=how``."""
    settings = PixelSettings(
        image_size=(wanted, wanted), channels=3, background=(255, 255, 255), decode=how
    )
    return decode(data, settings)[0]


def eighth(data: bytes) -> None:
    """Reads the file's code and little more: what no decoder of this kind can do without."""
    with Image.open(BytesIO(data)) as image:
        image.draft(None, (SIDE // 8, SIDE // 8))
        image.load()


def ways(wanted: int) -> Mapping[str, Way]:
    """What is compared, each from a file to ``wanted`` px."""
    return {
        "exact": partial(by_us, how="exact", wanted=wanted),
        "fast": partial(by_us, how="fast", wanted=wanted),
        "torchvision": partial(by_torchvision, wanted=wanted),
    }


def levels_off(files: Sequence[bytes], way: Way, exact: Way) -> float:
    """The mean absolute difference from exact pixels, in gray levels of 256."""
    pairs = ((way(data), exact(data)) for data in files)
    return float(np.mean([np.abs(a.astype(int) - b.astype(int)).mean() for a, b in pairs]))


def compare(files: Sequence[bytes], rounds: int, wanted: int) -> str:
    """Markdown: milliseconds per image and gray levels off of each way."""

    def all_of(way: Callable[[bytes], object]) -> Callable[[], None]:
        def run() -> None:
            for data in files:
                way(data)

        return run

    found = ways(wanted)
    work = {**found, "to an eighth": eighth}
    cases = {name: Case(run=all_of(way), images=len(files)) for name, way in work.items()}
    taken = interleave(cases, rounds=rounds, warmup=1)
    lines = [f"to {wanted} px", "", durations(taken, each="image", per=len(files)), ""]
    for name, way in found.items():
        lines.append(f"{name}: {levels_off(files, way, found['exact']):.2f} gray levels off")
    return "\n".join(lines)


def prepared(files: Sequence[bytes], num: int, folder: Path, **options: object) -> float:
    """Prepares ``num`` images, each of a few under many names; returns the seconds it took."""
    (folder / "set" / "a").mkdir(parents=True)
    for i in range(num):
        first = folder / "set" / "a" / f"{i % len(files)}.jpg"
        if i < len(files):
            first.write_bytes(files[i])
        else:
            os.link(first, folder / "set" / "a" / f"{i}.jpg")
    settings = {"image_size": 256, "channels": 3, "flip": False, "decode": "fast", **options}
    data = Folder(root=str(folder / "set"), cache=str(folder / "cache"), **settings)  # type: ignore[arg-type]
    started = time.perf_counter()
    data.prepare()
    return time.perf_counter() - started


def by_cores(files: Sequence[bytes], num: int) -> str:
    """Markdown: images/s of a whole preparation to 256 px, on one core and on all."""
    cores = sorted(os.sched_getaffinity(0))
    lines = ["| cores | `exact`, images/s | `fast`, images/s |", "|---|---|---|"]
    for some in (cores[:1], cores):
        os.sched_setaffinity(0, some)
        cells = [str(len(some))]
        for how in ("exact", "fast"):
            with tempfile.TemporaryDirectory() as name:
                cells.append(f"{num / prepared(files, num, Path(name), decode=how):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=Path, help="a folder of photographs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256], help="in pixels")
    parser.add_argument("--prepare", type=int, help="so many images, on one core and on all")
    parser.add_argument("--memory", type=int, nargs="+", help="prepare so many images")
    parser.add_argument("--alone", action="store_true", help="in this very process")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory is not None and not args.alone:
        given = ["--files", str(args.files)] if args.files else []
        for num in args.memory:
            command = [sys.executable, "-m", __spec__.name, "--alone", "--memory", str(num)]
            done = subprocess.run([*command, *given], check=True, capture_output=True, text=True)
            print(f"peak memory, {num} images prepared: {done.stdout.strip()} MiB", flush=True)
        return
    files = photographs(8) if args.files is None else from_folder(args.files)
    if args.memory is not None:
        with tempfile.TemporaryDirectory() as name:
            prepared(files, args.memory[0], Path(name), image_size=64)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    size = sum(map(len, files)) / len(files) / 2**10
    print(f"{machine()}\n{len(files)} files of {size:.0f} KiB on average\n")
    if args.prepare is not None:
        print(by_cores(files, args.prepare))
        return
    for wanted in args.sizes:
        print(compare(files, args.rounds, wanted) + "\n", flush=True)


if __name__ == "__main__":
    main()
