"""An extractor from a local file, without running any Python that the file may hold."""

import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ccdiff.errors import UserError
from ccdiff.metrics.classifier import Classifier
from ccdiff.metrics.extractors import (
    ClassifierExtractor,
    Extractor,
    Material,
    Source,
)

__all__ = ["LocalFile"]


@dataclass(frozen=True, kw_only=True)
class LocalFile(Source):
    """The weights of a classifier that this suite has trained, such as that of other data.

    A network of one's own is a :class:`~ccdiff.metrics.extractors.Source` of one's own.

    Arguments:
        file: A ``classifiers/*.pt`` of a cache; its name becomes part of the figures' names unless
            ``name`` is given.
        name: Letters, digits and underscores, or None.
    """

    file: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        # It becomes part of the names of files.
        if self.name is not None and not re.fullmatch(r"\w+", self.name):
            raise UserError(
                f"extractor.name={self.name!r} must be letters, digits and underscores"
            )

    def check(self) -> None:
        self._path()

    def _path(self) -> Path:
        if self.file is None:
            raise UserError("extractor=path needs extractor.file=<classifiers/*.pt of a cache>")
        path = Path(self.file).expanduser()
        if not path.is_file():
            raise UserError(f"extractor.file={self.file}: there is no such file")
        return path

    def open(self, material: Material) -> Extractor:
        path = self._path()
        name = self.name or re.sub(r"\W+", "_", path.stem)
        classes = material.train.labels.ndim == 1
        return ClassifierExtractor(self._classifier(path, material), scored=classes, name=name)

    def _classifier(self, path: Path, material: Material) -> Classifier:
        refusal = UserError(
            f"extractor.file={self.file} does not hold the weights of a classifier of this suite; "
            f"a network of your own is a class of your own, see ccdiff.metrics.extractors.Source"
        )
        try:
            kept: Any = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise refusal from error
        weights = kept.get("weights") if isinstance(kept, dict) else None
        if not isinstance(weights, dict) or "head.bias" not in weights:
            raise refusal
        c, h, w = material.train.images.shape[1:]
        classifier = Classifier(
            (c, h, w), num_labels=len(weights["head.bias"]), numbers="mean" in weights
        )
        try:
            classifier.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(
                f"extractor.file={self.file} is a classifier of images of another size than "
                f"{h} x {w} with {c} channels"
            ) from error
        classifier.heldout_accuracy = float(kept["heldout_accuracy"])
        return classifier.to(material.device).requires_grad_(False).eval()
