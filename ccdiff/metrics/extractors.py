"""What turns images into features, and how to come by it.

A group option is a :class:`Source`: it states where features come from and is opened with a data
set. What it opens is an :class:`Extractor`, whose name is in the name of every figure made from
its features, and whose fingerprint says which figures compare.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ccdiff.data import DataSet, Split
from ccdiff.diffusion.oracle import LabelledOracle
from ccdiff.metrics.classifier import Classifier, load_classifier
from ccdiff.metrics.plane import ExactClassifier

__all__ = ["ClassifierExtractor", "ClassifierSource", "Extractor", "Material", "Seen", "Source"]


class Seen(NamedTuple):
    """What an extractor makes of images, on the CPU.

    Arguments:
        features: Float32 [B, F].
        logits: Of what it takes the images for, float32 [B, K]; None where it says nothing.
    """

    features: Tensor
    logits: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Material:
    """What an extractor may need of a data set.

    Arguments:
        train: Training images.
        heldout: Held-out images.
        num_labels: K, classes or attributes.
        flip: Whether a mirrored image is as good as the original.
        cache: Folder for what is worth keeping.
        device: Where to work.
        whole: All training images, where a model is trained on a part of them: a judge learns
            from these, so that it is the same for parts of any size.
        exact: What it is drawn from, where that is known, as of points of the plane.
    """

    train: Split
    heldout: Split
    num_labels: int
    flip: bool
    cache: Path
    device: torch.device
    whole: Split | None = None
    exact: LabelledOracle | None = None

    @classmethod
    def of(
        cls,
        data: DataSet,
        train: Split,
        heldout: Split,
        *,
        cache: str | Path,
        device: torch.device,
    ) -> "Material":
        """That of a data set, whose two parts are loaded; ``cache`` may begin with ``~``."""
        return cls(
            train=train,
            heldout=heldout,
            num_labels=len(data.names),
            flip=data.flip,
            cache=Path(cache).expanduser(),
            device=device,
            whole=None if data.limit is None else replace(data, limit=None).load()[0],
            exact=data.exact,
        )


class Extractor(ABC):
    """The contract: :meth:`see`.

    Arguments:
        name: In the name of every figure.
        fingerprint: Of everything that features depend on.
        scored: Whether it tells classes apart that exclude each other.
    """

    def __init__(self, name: str, fingerprint: str, *, scored: bool) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.scored = scored

    @abstractmethod
    def see(self, images: Tensor) -> Seen:
        """Features of uint8 images [B, C, H, W]; a few hundred at a time."""

    def metric(self, kind: str) -> str:
        """The name of a figure, such as ``fd_classifier`` for the kind ``fd``."""
        return f"{kind}_{self.name}"


class Source(ABC):
    """The contract: :meth:`open`."""

    def check(self) -> None:  # noqa: B027 - most have nothing to say
        """Tells at once what would fail when it is opened, as far as that is known.

        Raises:
            UserError: Where something is missing.
        """

    @abstractmethod
    def open(self, material: Material) -> Extractor:
        """The extractor for a data set.

        Raises:
            UserError: Where its weights are not to be had, with what to do.
        """


def weights_fingerprint(module: nn.Module) -> str:
    """A hash of all weights, 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(module.state_dict().items()):
        digest.update(repr((name, weight.shape, weight.dtype)).encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


class ClassifierExtractor(Extractor):
    """The layer before the last of a classifier of the same data; also judges labels.

    Arguments:
        classifier: In evaluation mode; or, of points, the exact one, whose features are these.
        scored: Whether its labels are classes, not attributes.
        name: In the name of every figure.
    """

    def __init__(
        self,
        classifier: Classifier | ExactClassifier,
        *,
        scored: bool,
        name: str = "classifier",
    ) -> None:
        super().__init__(name, weights_fingerprint(classifier), scored=scored)
        self.classifier: Classifier | ExactClassifier = classifier

    def see(self, images: Tensor) -> Seen:
        features, logits = zip(*self.classifier.judge(images), strict=True)
        return Seen(torch.cat(features), torch.cat(logits))


@dataclass(frozen=True, kw_only=True)
class ClassifierSource(Source):
    """Trains a small classifier on the training images, once per data set; needs no download.

    Of points whose density is known, nothing is trained: their exact probabilities judge.
    """

    def open(self, material: Material) -> ClassifierExtractor:
        if material.exact is not None:
            exact = ExactClassifier(material.exact, material.heldout)
            return ClassifierExtractor(exact, scored=True, name="exact")
        classifier = load_classifier(
            material.whole or material.train,
            material.heldout,
            num_labels=material.num_labels,
            flip=material.flip,
            cache=material.cache,
            device=material.device,
        )
        return ClassifierExtractor(
            classifier,
            scored=material.train.labels.ndim == 1,
            name="regressor" if classifier.numbers else "classifier",
        )
