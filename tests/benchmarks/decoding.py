"""From JPEG files to prepared pixels: speed, how far pixels are off, and memory.

``uv run python -m tests.benchmarks.decoding`` brings photographs of 1024 px to 256 px on one
thread, exactly, fast, and by ``torchvision.io.decode_image`` with an antialiased resize, and
prints how many gray levels each is off from the exact ones on average. ``--memory`` prepares 2,000
and 20,000 images, each in a process of its own, and prints the most that it had resident.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ccdiff.data import Folder
from ccdiff.data.files.decode import PixelSettings, decode
from tests.benchmarks.kit import Case, durations, interleave, machine

SIDE, WANTED = 1024, 256
QUALITY = 92
# Of a camera at low sensitivity.
NOISE = 1.5


def encoded(pixels: np.ndarray) -> bytes:
    """A JPEG with colour at half resolution, as cameras write it, of uint8 [H, W, 3]."""
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return content.getvalue()


def natural(n: int) -> list[bytes]:
    """Pictures with the spectrum of photographs, amplitude over frequency, and a camera's noise.

    Field, Relations between the statistics of natural images and the response properties of
    cortical cells, 1987, JOSA A 4(12).
    """
    found = []
    rows, columns = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij")
    radius = np.hypot(rows, columns)
    radius[0, 0] = np.inf
    # Lens and demosaicing leave little of the highest frequencies.
    amplitude = np.exp(-((radius / 0.15) ** 2)) / radius**1.3
    for seed in range(n):
        rng = np.random.default_rng(seed)
        planes = []
        for _ in range(3):
            phases = np.exp(2j * np.pi * rng.random(radius.shape))
            plane = np.fft.irfft2(amplitude * phases, (SIDE, SIDE))
            planes.append(plane / plane.std())
        gray, red, blue = planes  # Colours differ by less than brightness does.
        picture = np.stack([gray + 0.3 * red, gray, gray + 0.3 * blue], axis=-1)
        noisy = 127 + 45 * picture + NOISE * rng.standard_normal(picture.shape)
        found.append(encoded(noisy.round().clip(0, 255).astype(np.uint8)))
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
        found.append(encoded(wide[top : top + SIDE, left : left + SIDE]))
    return found


def enlarged(n: int) -> list[bytes]:
    """The same photographs enlarged to 1024 px, as most faces of CelebA-HQ are."""
    found = []
    for i, data in enumerate(photographs(n)):
        picture = Image.open(BytesIO(data)).crop((0, 0, 427, 427))
        large = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        noise = NOISE * np.random.default_rng(i).standard_normal((SIDE, SIDE, 3))
        found.append(encoded((np.asarray(large) + noise).round().clip(0, 255).astype(np.uint8)))
    return found


def by_torchvision(data: bytes) -> np.ndarray:
    """uint8 [3, 256, 256] in the usual way."""
    from torchvision.io import decode_image
    from torchvision.transforms.v2.functional import resize

    image = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return resize(image, [WANTED, WANTED], antialias=True).numpy()


def by_us(how: str) -> Callable[[bytes], np.ndarray]:
    settings = PixelSettings(
        image_size=(WANTED, WANTED), channels=3, background=(255, 255, 255), decode=how
    )
    return lambda data: decode(data, settings)[0]


WAYS: Mapping[str, Callable[[bytes], np.ndarray]] = {
    "exact": by_us("exact"),
    "fast": by_us("fast"),
    "torchvision": by_torchvision,
}


def levels_off(files: Sequence[bytes], way: Callable[[bytes], np.ndarray]) -> float:
    """The mean absolute difference from exact pixels, in gray levels of 256."""
    pairs = ((way(data), WAYS["exact"](data)) for data in files)
    return float(np.mean([np.abs(a.astype(int) - b.astype(int)).mean() for a, b in pairs]))


def compare(files: Sequence[bytes], rounds: int) -> str:
    """Markdown: milliseconds per image and gray levels off of each way."""

    def all_of(way: Callable[[bytes], np.ndarray]) -> Callable[[], None]:
        def run() -> None:
            for data in files:
                way(data)

        return run

    cases = {name: Case(run=all_of(way), images=len(files)) for name, way in WAYS.items()}
    taken = interleave(cases, rounds=rounds, warmup=1)
    lines = [durations(taken, each="image", per=len(files)), ""]
    for name, way in WAYS.items():
        lines.append(f"{name}: {levels_off(files, way):.2f} gray levels off")
    size = sum(map(len, files)) / len(files) / 2**10
    return "\n".join([*lines, f"files of {size:.0f} KiB on average"])


def prepare(num: int, folder: Path) -> None:
    """Prepares ``num`` images and prints the peak memory in MiB."""
    (folder / "set" / "a").mkdir(parents=True)
    few = photographs(8)
    for i in range(num):
        # One file under many names: what counts is how many there are.
        first = folder / "set" / "a" / f"{i % 8}.jpg"
        if i < 8:
            first.write_bytes(few[i])
        else:
            os.link(first, folder / "set" / "a" / f"{i}.jpg")
    data = Folder(
        root=str(folder / "set"), cache=str(folder / "cache"), image_size=64, channels=3,
        flip=False, decode="fast",
    )  # fmt: skip
    data.prepare()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", type=int, nargs="*", help="prepare so many images")
    parser.add_argument("--alone", action="store_true", help="in this very process")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory is None:
        print(machine())
        for make in (enlarged, natural, photographs):
            print(f"\n{make.__name__}\n\n{compare(make(args.images), args.rounds)}")
        return
    for num in args.memory or (2_000, 20_000):
        with tempfile.TemporaryDirectory() as name:
            if args.alone:
                prepare(num, Path(name))
                continue
        command = [sys.executable, "-m", __spec__.name, "--alone", "--memory", str(num)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f"peak memory, {num} images prepared: {done.stdout.strip()} MiB")


if __name__ == "__main__":
    main()
