"""A small classifier trained on a data set's own training split, to judge images with.

Its labels say whether an image shows what it should, its features how far two sets of images are
apart, and neither needs weights from elsewhere. Where labels are real numbers it is a regressor.
The training is a pure function of the data, and kept on disk under a fingerprint of the data.
"""

import hashlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    interpolate,
    pad,
)
from tqdm import tqdm

from ccdiff.data import Batches, Split, augment, to_float
from ccdiff.metrics.agreement import label_agreement
from ccdiff.metrics.cache import keep, kept
from ccdiff.seeding import generator_for, seed_for
from ccdiff.system.stopping import heed

__all__ = ["Classifier", "Judgement", "load_classifier"]

log = logging.getLogger(__name__)

# Part of the fingerprint: a change of the network or of its training needs a new number.
_FORMAT = 1
_MAX_SIZE = 64
_WIDTHS = (16, 32, 64, 128)
_SMALLEST_MAP = 4
_NUM_FEATURES = 128
_RELIABLE = 0.7
"""Share of held-out labels right, below which it is said that judgements mean little."""
_RELIABLE_ERROR = 0.5
"""Of numbers, in standard deviations; to say always the mean is 0.8 off where they are normal."""
_BATCH_SIZE = 128
_PEAK_LR = 3e-3
_WEIGHT_DECAY = 0.05
_WARM_UP = 0.2
_IMAGES_SEEN = 240_000
_MAX_EPOCHS = 20
_CHUNK = 512


class Judgement(NamedTuple):
    """What the classifier makes of images.

    Arguments:
        features: Of the layer before the last, float32 [B, 128].
        logits: Float32 [B, K]; of numbers, what they are, standardised.
    """

    features: Tensor
    logits: Tensor


class Classifier(nn.Module):
    """Convolutions that halve the image down to 4 x 4, one hidden layer, one logit per label.

    Images larger than 64 pixels are first brought to that size.

    Arguments:
        image_shape: ``(C, H, W)``.
        num_labels: K, classes, attributes or numbers.
        numbers: Whether they are numbers.
    """

    mean: Tensor | None
    """Of numbers in the training images, [K]."""
    std: Tensor | None
    """Of numbers in the training images, [K]."""

    def __init__(
        self, image_shape: tuple[int, int, int], *, num_labels: int, numbers: bool = False
    ) -> None:
        super().__init__()
        self.numbers = numbers
        for name in ("mean", "std"):
            self.register_buffer(name, torch.ones(num_labels) if numbers else None)
        channels, *sides = image_shape
        self.sides = sides = [min(side, _MAX_SIZE) for side in sides]
        stages: list[nn.Module] = []
        for width in _WIDTHS:
            if width > _WIDTHS[-2] and max(sides) <= _SMALLEST_MAP:
                break
            stride = 2 if max(sides) > _SMALLEST_MAP else 1
            stages += [
                *_convolution(channels, width, stride=1),
                *_convolution(width, width, stride=stride),
            ]
            channels, sides = width, [-(-side // stride) for side in sides]
        self.body = nn.Sequential(
            *stages,
            nn.Flatten(),
            nn.Linear(channels * math.prod(sides), _NUM_FEATURES, bias=False),
            nn.BatchNorm1d(_NUM_FEATURES),
            nn.SiLU(),
        )
        self.head = nn.Linear(_NUM_FEATURES, num_labels)
        self.heldout_accuracy = math.nan
        """Its label agreement on held-out images: a share, or of numbers an error."""

    def standardised(self, y: Tensor) -> Tensor:
        """Labels in the units of logits: numbers standardised, all others as they are."""
        if self.mean is None or self.std is None:
            return y
        return (y - self.mean.to(y.device)) / self.std.to(y.device)

    def forward(self, x0: Tensor) -> Judgement:
        """Judges images in [-1, 1], [B, C, H, W]."""
        if list(x0.shape[-2:]) != self.sides:
            x0 = interpolate(x0, self.sides, mode="area")
        features = self.body(x0)
        return Judgement(features, self.head(features))

    @torch.no_grad()
    def judge(self, images: Tensor) -> Iterator[Judgement]:
        """Judges uint8 images [N, C, H, W] part by part, on the CPU: parts come in order."""
        device = self.head.weight.device
        for part in images.split(_CHUNK):
            heed()
            judgement = self(to_float(part.to(device)))
            yield Judgement(judgement.features.float().cpu(), judgement.logits.float().cpu())

    def logits(self, images: Tensor) -> Tensor:
        """Logits of uint8 images [N, C, H, W], on the CPU, float32 [N, K]."""
        return torch.cat([judgement.logits for judgement in self.judge(images)])


def _convolution(channels: int, width: int, *, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.SiLU(),
    ]


def load_classifier(
    train: Split,
    heldout: Split,
    *,
    num_labels: int,
    flip: bool,
    cache: Path,
    device: torch.device | str = "cpu",
) -> Classifier:
    """The classifier of a data set: from ``cache`` where it is there, else trained and kept.

    Arguments:
        train: What it learns from.
        heldout: What its accuracy is measured on.
        num_labels: K, classes or attributes; ``labels.ndim`` says which.
        flip: Whether a mirrored image is as good as the original.
        cache: Folder to keep it in.
        device: Where to train and run it.

    Returns:
        The classifier in evaluation mode, without gradients.
    """
    path = (
        cache
        / "classifiers"
        / f"{fingerprint(train, heldout, num_labels=num_labels, flip=flip)}.pt"
    )
    c, h, w = train.images.shape[1:]
    numbers = train.labels.is_floating_point()
    classifier = Classifier((c, h, w), num_labels=num_labels, numbers=numbers)
    if not _restore(classifier, path):
        kind = "regressor" if numbers else "classifier"
        log.info("training a %s on %d images to judge with; it is kept", kind, len(train))
        classifier = train_classifier(train, num_labels=num_labels, flip=flip, device=device)
        classifier.heldout_accuracy = label_agreement(
            classifier.logits(heldout.images), classifier.standardised(heldout.labels.cpu())
        )
        weights = {name: value.cpu() for name, value in classifier.state_dict().items()}
        keep({"weights": weights, "heldout_accuracy": classifier.heldout_accuracy}, path)
    _say_how_good(classifier)
    return classifier.to(device).requires_grad_(False).eval()


def _say_how_good(classifier: Classifier) -> None:
    accuracy = classifier.heldout_accuracy
    if classifier.numbers:
        log.info("regressor: %.3g standard deviations off on held-out numbers", accuracy)
        if accuracy > _RELIABLE_ERROR:
            log.warning(
                "so weak a regressor is a poor judge: even on real images it is %.2g standard "
                "deviations off",
                accuracy,
            )
        return
    log.info("classifier: %.2f %% of held-out labels right", 100 * accuracy)
    if accuracy < _RELIABLE:
        log.warning(
            "so weak a classifier is a poor judge: even real images get %.0f %% label agreement",
            100 * accuracy,
        )


def train_classifier(
    train: Split, *, num_labels: int, flip: bool, device: torch.device | str = "cpu"
) -> Classifier:
    """Trains on about 240,000 images in all, at most 20 epochs: a pure function of the data.

    Class indices are learned by cross-entropy, attributes by binary cross-entropy and standardised
    numbers by their squared error. Images are shifted at random, by an eighth of their size at
    most, unless numbers are learned.
    """
    device = torch.device(device)
    c, h, w = train.images.shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("classifier"))
        numbers = train.labels.is_floating_point()
        classifier = Classifier((c, h, w), num_labels=num_labels, numbers=numbers)
    if numbers:
        _standardise(classifier, train.labels)
    classifier = classifier.to(device)
    steps = math.ceil(min(_IMAGES_SEEN, _MAX_EPOCHS * len(train)) / _BATCH_SIZE)
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=_PEAK_LR, weight_decay=_WEIGHT_DECAY, fused=True
    )
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / steps))
    batches = Batches(train, batch_size=_BATCH_SIZE, seed=seed_for("classifier"), device=device)
    generator = generator_for("classifier", "augment", device=device)
    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        tqdm(range(steps), desc="classifier", unit="step", disable=None) as bar,
    ):
        for step in bar:
            heed()
            images, labels = batches.batch(step)
            images = augment(images, generator) if flip else images
            # A number may be a place in the image, which would be another one then.
            images = images if numbers else _shift(images, generator)
            logits = classifier(to_float(images)).logits
            loss = _loss(logits, classifier.standardised(labels))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rates.step()
    return classifier.eval()


def _standardise(classifier: Classifier, labels: Tensor) -> None:
    """Takes mean and spread of each number from those that are there."""
    labels = labels.double().cpu()
    mean = labels.nanmean(0)
    std = (labels - mean).square().nanmean(0).sqrt()
    classifier.mean, classifier.std = mean.float(), std.float()


def _loss(logits: Tensor, y: Tensor) -> Tensor:
    if y.ndim == 1:
        return cross_entropy(logits, y)
    if not y.is_floating_point():
        return binary_cross_entropy_with_logits(logits, y.float())
    there = ~y.isnan()
    squared = torch.where(there, logits - y.nan_to_num(), 0.0).square()
    return squared.sum() / there.sum().clamp(min=1)


def _rate(progress: float) -> float:
    """Up to 1 over the first fifth of the training, and down to 0 over the rest."""
    return min(progress / _WARM_UP, (1 - progress) / (1 - _WARM_UP)) + 1e-3


def _shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each of the images [B, C, H, W] shifted by up to an eighth, its borders repeated."""
    n, _, height, width = images.shape
    reach = height // 8
    padded = pad(images.float(), (reach,) * 4, mode="replicate").to(images.dtype)
    offsets = torch.randint(2 * reach + 1, (2, n, 1), generator=generator, device=generator.device)
    rows = offsets[0] + torch.arange(height, device=images.device)
    columns = offsets[1] + torch.arange(width, device=images.device)
    sample = torch.arange(n, device=images.device)[:, None, None]
    # Indices on both sides of a slice put its dimension last.
    return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _restore(classifier: Classifier, path: Path) -> bool:
    """Loads what was kept; warns where that is damaged."""
    state = kept(path)
    if state is None:
        return False
    try:
        classifier.load_state_dict(state["weights"])
        classifier.heldout_accuracy = float(state["heldout_accuracy"])
    except (RuntimeError, LookupError, TypeError) as error:
        log.warning("%s is damaged (%s): making it anew", path, type(error).__name__)
        return False
    return True


def fingerprint(train: Split, heldout: Split, *, num_labels: int, flip: bool) -> str:
    """A hash of everything that a classifier depends on, 32 hexadecimal digits."""
    # Those kept before have the plain share of right attributes as their accuracy.
    form = _FORMAT if train.labels.ndim == 1 else (_FORMAT, "balanced accuracy")
    parts = (form, num_labels, flip, train.whole_fingerprint(), heldout.whole_fingerprint())
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
