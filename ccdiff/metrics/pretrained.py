"""Extractors trained on other pictures: Inception, whose Fréchet distance is FID, and DINOv2.

Both come from torch-fidelity, the extra ``metrics``, and their weights from the network at first
use.
"""

import importlib.util
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ccdiff.errors import UserError
from ccdiff.metrics.extractors import (
    Extractor,
    Material,
    Seen,
    Source,
    weights_fingerprint,
)
from ccdiff.system.stopping import heed

__all__ = ["DinoV2", "Inception"]

_CHUNK = 64
_PUBLISHED = {"fd": "fid", "kd": "kid", "score": "inception_score"}


class _Fidelity(Extractor):
    """A network of torch-fidelity: features first and logits second, if it has any."""

    def __init__(self, name: str, network: Any, device: torch.device, *, scored: bool) -> None:
        super().__init__(name, weights_fingerprint(network), scored=scored)
        self.network = network.to(device)
        self.device = device

    @torch.no_grad()
    def see(self, images: Tensor) -> Seen:
        parts = []
        for part in images.split(_CHUNK):
            heed()
            colour = part.expand(-1, 3, -1, -1) if part.shape[1] == 1 else part
            outputs = self.network(colour.to(self.device))
            parts.append([output.flatten(1).float().cpu() for output in outputs])
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        return Seen(columns[0], columns[1] if len(columns) > 1 else None)


class _Inception(_Fidelity):
    """Its figures have names of their own."""

    def metric(self, kind: str) -> str:
        return _PUBLISHED.get(kind, super().metric(kind))


@dataclass(frozen=True, kw_only=True)
class Inception(Source):
    """Inception v3 as of 2015, in the features of FID: Heusel et al., 2017 (arXiv:1706.08500).

    Gray images are shown as gray RGB.

    Arguments:
        weights: A local file of torch-fidelity's weights; None fetches them.
    """

    weights: str | None = None

    def check(self) -> None:
        _require_torch_fidelity("inception")

    def open(self, material: Material) -> Extractor:
        self.check()
        weights = self._checked()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        features = ["2048", "logits_unbiased"]
        try:
            network = FeatureExtractorInceptionV3(
                "inception-v3-compat", features, feature_extractor_weights_path=weights
            )
        except OSError as error:  # urllib's errors are among them.
            raise UserError(
                f"the weights of Inception could not be fetched ({error}): fetch "
                f"weights-inception-2015-12-05-6726825d.pth of torch-fidelity elsewhere and pass "
                f"extractor.weights=<file>, or use extractor=classifier"
            ) from error
        return _Inception("inception", network, material.device, scored=True)

    def _checked(self) -> str | None:
        """The file, known to hold weights alone: torch-fidelity would run what else is in it."""
        if self.weights is None:
            return None
        path = Path(self.weights).expanduser()
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise UserError(f"extractor.weights={self.weights}: there is no such file") from error
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise UserError(
                f"extractor.weights={self.weights} holds no weights, or more than weights: pass "
                f"weights-inception-2015-12-05-6726825d.pth of torch-fidelity"
            ) from error
        return str(path)


@dataclass(frozen=True, kw_only=True)
class DinoV2(Source):
    """A self-supervised vision transformer: Oquab et al., DINOv2, 2023 (arXiv:2304.07193).

    Its distances follow human judgement better than Inception's: Stein et al., Exposing Flaws of
    Generative Model Evaluation Metrics, 2023 (arXiv:2306.04675). Weights and code of the network
    are fetched by ``torch.hub`` from its authors' repository.

    Arguments:
        size: ``s``, ``b``, ``l`` or ``g``.
    """

    size: str = "b"

    sizes: ClassVar[tuple[str, ...]] = ("s", "b", "l", "g")

    def __post_init__(self) -> None:
        if self.size not in self.sizes:
            raise UserError(f"extractor.size must be s, b, l or g, got {self.size!r}")

    def check(self) -> None:
        _require_torch_fidelity("dinov2")

    def open(self, material: Material) -> Extractor:
        self.check()
        from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

        try:
            network = FeatureExtractorDinoV2(f"dinov2-vit-{self.size}-14", ["dinov2"])
        except OSError as error:
            raise UserError(
                f"DINOv2 could not be fetched ({error}): connect to the network once, or use "
                f"extractor=classifier or extractor=path"
            ) from error
        name = "dinov2" if self.size == "b" else f"dinov2_{self.size}"
        return _Fidelity(name, network, material.device, scored=False)


def _require_torch_fidelity(option: str) -> None:
    if importlib.util.find_spec("torch_fidelity") is None:
        raise UserError(
            f"extractor={option} needs torch-fidelity: uv sync --extra metrics, or "
            f"pip install torch-fidelity"
        )
