"""A folder of static files that draws in a browser, without a server that computes anything."""

import json
import logging
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import torch
from omegaconf import DictConfig

from ccdiff.config.build import image_shape_of, instantiate
from ccdiff.config.options import compose_option
from ccdiff.data import in_plane
from ccdiff.diffusion.conditioning import OneHot
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.thresholding import Clip, Unlimited
from ccdiff.errors import UserError
from ccdiff.pages.html import look
from ccdiff.system.atomic import write_text, write_whole

__all__ = ["RUNTIME", "SAMPLERS", "check_page", "write_page"]

log = logging.getLogger(__name__)

SAMPLERS = ("ddim", "dpmpp_2m")
STEPS = (4, 8, 16, 32, 64)
RUNTIME = "onnxruntime-web@1.30.0"
"""What runs the graph, from the package registry of npm. Its licence is MIT."""
_NEEDED = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_PAGES = Path(__file__).with_name("web")
_PATIENCE = 600


def check_page(config: DictConfig, denoiser: Denoiser, runtime: str | None) -> None:
    """Tells at once what would fail later.

    Raises:
        UserError: Where the model is of a kind that the page does not know, or npm is not there.
    """
    if in_plane(image_shape_of(config)):
        raise UserError("format=web draws images, and these are points: use format=onnx")
    if not isinstance(denoiser.conditioning, OneHot):
        raise UserError("format=web draws classes: this model has other labels; use format=onnx")
    threshold = instantiate(config.threshold)
    if not isinstance(threshold, Clip | Unlimited):
        raise UserError(
            "format=web knows threshold clip and none: this model was trained with "
            f"{type(threshold).__name__}"
        )
    if runtime is None and shutil.which("npm") is None:
        raise UserError(
            f"format=web takes {RUNTIME} from the package registry of npm, and npm is not "
            f"installed: install it, or pass runtime=<the folder dist of that package>"
        )
    if runtime is not None and not all((Path(runtime) / name).is_file() for name in _NEEDED):
        raise UserError(f"runtime={runtime} must hold {', '.join(_NEEDED)}")


def write_page(config: DictConfig, denoiser: Denoiser, folder: Path, runtime: str | None) -> None:
    """Adds to a folder with ``model.onnx`` the page, its samplers, their levels, the runtime.

    Arguments:
        config: What the model was trained with.
        denoiser: The model.
        folder: Where to.
        runtime: A folder with the files of ONNX Runtime for browsers; None fetches them with npm.

    Raises:
        UserError: Where npm does not give them.
    """
    settings = json.dumps(_settings(config, denoiser))
    write_text(folder / "settings.js", f"const SETTINGS = {settings};\n")
    for name in ("index.html", "samplers.js", "page.js"):
        write_text(folder / name, (_PAGES / name).read_text())
    write_text(folder / "style.css", look() + (_PAGES / "style.css").read_text())
    if runtime is not None:
        _copy(Path(runtime), folder)
    else:
        with TemporaryDirectory() as scratch:
            _copy(_fetched(Path(scratch)), folder)


def _settings(config: DictConfig, denoiser: Denoiser) -> dict[str, Any]:
    """All that the page has to know; levels are ``[log_snr, alpha, sigma]`` of each time."""
    return {
        "labels": list(denoiser.conditioning.label_names),
        "shape": list(image_shape_of(config)),
        "clip": isinstance(instantiate(config.threshold), Clip),
        "guided": denoiser.conditioning.drop > 0,
        "levels": {name: {n: _levels(denoiser, name, n) for n in STEPS} for name in SAMPLERS},
    }


def _levels(denoiser: Denoiser, sampler: str, steps: int) -> list[list[float]]:
    node = compose_option("sampler", sampler)
    node.steps = steps
    times = instantiate(node).times(denoiser.schedule)
    at = denoiser.schedule.at(times)
    return torch.stack([at.log_snr, at.alpha, at.sigma], dim=1).tolist()


def _fetched(scratch: Path) -> Path:
    """The files of the runtime, as npm gives them."""
    log.info("fetching %s with npm (33 MB)", RUNTIME)
    command = ["npm", "pack", RUNTIME, "--silent", "--ignore-scripts"]
    try:
        subprocess.run(
            command, cwd=scratch, check=True, capture_output=True, text=True, timeout=_PATIENCE
        )
        (packed,) = scratch.glob("*.tgz")
        with tarfile.open(packed) as archive:
            for name in _NEEDED:
                archive.extract(f"package/dist/{name}", scratch, filter="data")
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, tarfile.TarError) as error:
        told = getattr(error, "stderr", None) or error
        raise UserError(f"npm does not give {RUNTIME} ({told}): pass runtime=<folder>") from error
    return scratch / "package" / "dist"


def _copy(source: Path, folder: Path) -> None:
    for name in _NEEDED:
        content = (source / name).read_bytes()

        def write(file: BinaryIO, content: bytes = content) -> None:
            file.write(content)

        write_whole(folder / name, write)
