"""An extractor from a local file, without running any Python that the file may hold."""

import hashlib
import pickle
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ccdiff.data import to_float
from ccdiff.errors import UserError
from ccdiff.metrics.classifier import Classifier
from ccdiff.metrics.extractors import (
    ClassifierExtractor,
    Extractor,
    Material,
    Seen,
    Source,
)

__all__ = ["LocalFile"]

_CHUNK = 128


@dataclass(frozen=True, kw_only=True)
class LocalFile(Source):
    """A TorchScript archive, or the weights of a classifier that this suite has trained.

    A TorchScript network takes images in [-1, 1], float32 [B, C, H, W], and returns features, all
    dimensions after the first taken together. What ``torch.export`` writes is refused: to read it
    is to run pickled Python.

    Arguments:
        file: The file; its name becomes part of the figures' names unless ``name`` is given.
        name: Letters, digits and underscores, or None.
    """

    file: str | None = None
    name: str | None = None

    def check(self) -> None:
        self._path()

    def _path(self) -> Path:
        if self.file is None:
            raise UserError("extractor=path needs extractor.file=<a TorchScript file>")
        path = Path(self.file).expanduser()
        if not path.is_file():
            raise UserError(f"extractor.file={self.file}: there is no such file")
        return path

    def open(self, material: Material) -> Extractor:
        path = self._path()
        name = self.name or re.sub(r"\W+", "_", path.stem)
        members = _members(path)
        if any(member.endswith("constants.pkl") for member in members):
            return _Script(name, path, material.device)
        if any(member.endswith("models/model.json") for member in members):
            raise UserError(
                f"extractor.file={self.file} was written by torch.export, which cannot be read "
                f"without running pickled Python: write it with torch.jit.save"
            )
        classes = material.train.labels.ndim == 1
        return ClassifierExtractor(self._classifier(path, material), scored=classes, name=name)

    def _classifier(self, path: Path, material: Material) -> Classifier:
        refusal = UserError(
            f"extractor.file={self.file} is neither a TorchScript archive nor the weights of a "
            f"classifier of this suite"
        )
        try:
            kept: Any = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise refusal from error
        weights = kept.get("weights") if isinstance(kept, dict) else None
        if not isinstance(weights, dict) or "head.bias" not in weights:
            raise refusal
        c, h, w = material.train.images.shape[1:]
        classifier = Classifier((c, h, w), num_labels=len(weights["head.bias"]))
        try:
            classifier.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(
                f"extractor.file={self.file} is a classifier of images of another size than "
                f"{h} x {w} with {c} channels"
            ) from error
        classifier.heldout_accuracy = float(kept["heldout_accuracy"])
        return classifier.to(material.device).requires_grad_(False).eval()


class _Script(Extractor):
    """A TorchScript network."""

    def __init__(self, name: str, path: Path, device: torch.device) -> None:
        content = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        super().__init__(name, content, scored=False)
        self.path = path
        self.device = device
        with warnings.catch_warnings():
            # Its writing is discouraged in favour of torch.export, but its reading is safe.
            warnings.simplefilter("ignore")
            try:
                self.network = torch.jit.load(str(path), map_location=device).eval()
            except RuntimeError as error:
                raise UserError(f"{path} is a damaged TorchScript archive") from error

    @torch.no_grad()
    def see(self, images: Tensor) -> Seen:
        try:
            parts = [
                self.network(to_float(part.to(self.device))).flatten(1).float().cpu()
                for part in images.split(_CHUNK)
            ]
        except (RuntimeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"{self.path} cannot take images {tuple(images.shape[1:])} in [-1, 1] and return "
                f"one tensor of features: {reason}"
            ) from error
        return Seen(torch.cat(parts), None)


def _members(path: Path) -> list[str]:
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()
