"""``python -m tests.gpu.carry out=<folder> [data=<folder>] [also=<file or folder>,...]``.

Collects into ``out`` what a machine without a network lacks: ``site/``, a folder for PYTHONPATH
with the pure Python packages of this environment that are named here, ``COMMIT``, and beside them
copies of what is given. Says the size of each, and refuses what is more than 40 MiB together.
"""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from ccdiff.errors import UserError
from tests.gpu.bench import ROOT

__all__ = ["NEEDED", "WANTED", "collect"]

NEEDED = ("antlr4-python3-runtime", "omegaconf", "hydra-core", "ema-pytorch")
"""What the suite cannot run without, and an installation of torch does not bring."""
WANTED = (
    *("diffusers", "importlib_metadata", "denoising-diffusion-pytorch", "pytorch-fid"),
    *("joblib", "hydra-joblib-launcher"),
)
"""Others to measure with, and what starts jobs side by side; left out where they are not here."""
MOST = 40 << 20

_PIPELINES = ("ddim", "ddpm")
_COMPILED = (".so", ".pyd", ".dylib")


def collect(out: Path, *, given: dict[str, Path], most: int = MOST) -> dict[str, int]:
    """Collects all of it; an earlier collection there is replaced.

    Arguments:
        out: A folder that is not there, or that an earlier call has made.
        given: Files and folders to copy, by the name that they get.
        most: Bytes that it may take together.

    Returns:
        The bytes of each.

    Raises:
        UserError: Where something is not there, is not pure Python, or all is too large.
    """
    if out.exists() and any(out.iterdir()) and not (out / "COMMIT").is_file():
        raise UserError(f"{out} holds something else: pass another folder")
    shutil.rmtree(out, ignore_errors=True)
    site = out / "site"
    site.mkdir(parents=True)
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=True,
    )
    (out / "COMMIT").write_text(commit.stdout)
    sizes = {}
    for name in (*NEEDED, *WANTED):
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name in NEEDED:
                raise UserError(f"{name} is not installed here") from None
            continue
        sizes[f"{name} {distribution.version}"] = _copy_package(distribution, site)
    for name, path in given.items():
        if not path.exists():
            raise UserError(f"{path} is not there")
        into = out / name
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, into)
        sizes[name] = _bytes(into)
    if (total := sum(sizes.values())) > most:
        shutil.rmtree(out)
        shown = ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in sizes.items())
        raise UserError(f"{total / 2**20:.1f} MiB are more than {most / 2**20:.0f}: {shown}")
    return sizes


def _copy_package(distribution: importlib.metadata.Distribution, site: Path) -> int:
    """Copies what a package has installed, but for scripts and bytecode; returns its bytes."""
    files = distribution.files or []
    compiled = [file for file in files if file.suffix in _COMPILED]
    if compiled:
        raise UserError(f"{distribution.name} is not pure Python: {compiled[0]}")
    size = 0
    for file in files:
        if file.parts[0] == ".." or file.suffix == ".pyc" or _unused(file.parts):
            continue
        source, target = Path(str(distribution.locate_file(file))), site / file
        if not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        size += target.stat().st_size
    return size


def _unused(parts: tuple[str, ...]) -> bool:
    """Whether a file is of one of the pipelines of diffusers, which it loads when asked."""
    if parts[:2] == ("diffusers", "modular_pipelines"):
        return True
    return (
        parts[:2] == ("diffusers", "pipelines") and len(parts) > 3 and parts[2] not in _PIPELINES
    )


def _bytes(path: Path) -> int:
    return sum(
        p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file()
    )


def main(arguments: list[str]) -> None:
    """Reads the command line, collects, and says the sizes."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if "out" not in given or given.keys() - {"out", "data", "also"}:
        raise SystemExit(f"error: {__doc__.splitlines()[0]}")
    also = [Path(path).expanduser() for path in given.get("also", "").split(",") if path]
    copies = {path.name: path for path in also}
    if "data" in given:
        copies["cifar10"] = Path(given["data"]).expanduser()
    try:
        sizes = collect(Path(given["out"]).expanduser().absolute(), given=copies)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    for name, size in sizes.items():
        print(f"{size / 2**20:6.2f} MiB  {name}")
    print(f"{sum(sizes.values()) / 2**20:6.2f} MiB  in all")


if __name__ == "__main__":
    main(sys.argv[1:])
