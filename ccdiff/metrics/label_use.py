"""How well a model foresees held-out images, and what its label adds to that.

The error on ``eps`` of a held-out image is taken with its own label, and again with the label
hidden, or with a wrong one where the model has never seen a hidden label. The difference is the
label's gain: zero at every noise level for a model that ignores what it is told, long before
samples are good enough for a classifier to say so.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ccdiff.data import Split, to_float
from ccdiff.diffusion.conditioning import Conditioning
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.oracle import LabelledOracle
from ccdiff.diffusion.widest import widest
from ccdiff.seeding import generator_for

__all__ = ["BIN_EDGES", "LabelUse", "by_level", "eps_errors", "held_out_levels", "label_use"]

BIN_EDGES = tuple(range(-12, 13, 3))
"""Edges of the bins of log-SNR, from noisy to clean."""
_EVERYWHERE = (BIN_EDGES[0], BIN_EDGES[-1])
_WHERE_LABELS_TELL = (-8, 2)
"""Noisier images are lost to any model, and cleaner ones show what they are."""
_SURE = 3.0
_ENOUGH = 36
"""Images with a wrong label to compare with: three in four of so many are enough to be sure."""


def held_out_levels(n: int, span: tuple[float, float] = _EVERYWHERE) -> Tensor:
    """Log-SNR of each of ``n`` held-out images [N], spread evenly over ``span``."""
    low, high = span
    levels = low + (high - low) * (torch.arange(n) + 0.5) / n
    # Images may be sorted by class: a fixed shuffle keeps level and label independent.
    return levels[torch.randperm(n, generator=generator_for("held-out levels"))]


def by_level(values: Tensor) -> Tensor:
    """Means of held-out images' ``values`` [N] in each of the 8 bins of log-SNR, float64 [8]."""
    num = len(BIN_EDGES) - 1
    span = BIN_EDGES[-1] - BIN_EDGES[0]
    bins = ((held_out_levels(len(values)) - BIN_EDGES[0]) * num / span).long().clamp(0, num - 1)
    sums = torch.zeros(num, dtype=torch.float64).index_add_(0, bins, values.double())
    return sums / torch.bincount(bins, minlength=num)


@torch.no_grad()
def eps_errors(
    denoiser: Denoiser,
    split: Split,
    *,
    batch_size: int,
    y: Tensor | None = None,
    hide: bool = False,
    span: tuple[float, float] = _EVERYWHERE,
    exact: LabelledOracle | None = None,
) -> Tensor:
    """Mean squared error on ``eps`` of each image at its own noise level, float32 [N].

    Noise levels and noise are functions of an image's place alone, so figures of any runs compare,
    whatever schedule, prediction or weighting they train with. The mean over levels is the
    integrand of the variational bound: Kingma et al., Variational Diffusion Models, 2021
    (arXiv:2107.00630), eq. 18.

    Arguments:
        denoiser: In evaluation mode.
        split: Held-out images.
        batch_size: Images at a time.
        y: What the model is told instead of the labels of ``split``.
        hide: Whether it is told nothing.
        span: Of log-SNR.
        exact: Whose estimates take the place of the images: then it is the mean squared
            difference to the best estimate of ``eps`` there is, by which the error could fall.
    """
    device = next(denoiser.parameters()).device
    labels = split.labels if y is None else y
    levels = held_out_levels(len(split), span).to(device)
    noise = torch.randn(split.images.shape, generator=generator_for("held-out noise"))
    errors = []
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        x0, told = to_float(split.images[part].to(device)), labels[part].to(device)
        drop = torch.ones(len(x0), dtype=torch.bool, device=device) if hide else None
        level = denoiser.schedule.at_log_snr(widest(levels[part]))
        alpha, sigma = (u.float() for u in level.scales_like(x0))
        x_t = alpha * x0 + sigma * noise[part].to(device)
        wanted = x0 if exact is None else exact(x_t, level, told, drop)
        squared = (denoiser(x_t, level, told, drop) - wanted).square().flatten(1).mean(1)
        errors.append((alpha / sigma).flatten().square() * squared)
    return torch.cat(errors).cpu()


@dataclass(frozen=True, kw_only=True)
class LabelUse:
    """Errors of held-out images with and without their label.

    Arguments:
        told: Errors on ``eps`` with the true label, [N].
        other: With the label hidden, or with a wrong one, [N].
        hidden: Whether it was hidden.
        num_pixels: Numbers in an image, C H W.
        comparable: How many images there is a wrong label for; none where all have the same.
        certainty: By how many standard deviations the images that are foreseen better with their
            label than with a wrong one outnumber the others; about 0 for a label that is ignored.
    """

    told: Tensor
    other: Tensor
    hidden: bool
    num_pixels: int
    comparable: int
    certainty: float

    @property
    def against(self) -> str:
        """``null`` or ``wrong_label``: what the true label is compared with."""
        return "null" if self.hidden else "wrong_label"

    @property
    def gain(self) -> Tensor:
        """The error of each image with another label less that with the true one, [N]."""
        return self.other - self.told

    @property
    def bits(self) -> Tensor:
        r"""What each image adds to the bits that the label tells of an image, float64 [N].

        ``1/2 C H W \int gain d(log-SNR) / ln 2``, the difference of two variational bounds:
        see :func:`eps_errors`. For an ideal model and a hidden label its mean is the mutual
        information of label and image, at most the entropy of the label.
        """
        span = BIN_EDGES[-1] - BIN_EDGES[0]
        return self.gain.double() * self.num_pixels * span / (2 * math.log(2))

    @property
    def blind(self) -> bool:
        """Whether nothing shows that the model looks at its label, and there is enough to tell."""
        return self.comparable >= _ENOUGH and self.certainty < _SURE

    @property
    def warning(self) -> str:
        """What to say of a model that is blind."""
        return (
            f"THE MODEL IGNORES ITS LABEL: it foresees {self.comparable} held-out images no "
            f"better with their label than with a wrong one"
        )


def label_use(denoiser: Denoiser, split: Split, *, batch_size: int) -> LabelUse:
    """Measures what the label adds on held-out images.

    Arguments:
        denoiser: In evaluation mode, on the device to use.
        split: Held-out images.
        batch_size: Images at a time.
    """
    hidden = denoiser.conditioning.drop > 0
    wrong = _wrong_labels(split.labels, denoiser.conditioning)
    errors = partial(eps_errors, denoiser, split, batch_size=batch_size)
    gain = errors(y=wrong, span=_WHERE_LABELS_TELL) - errors(span=_WHERE_LABELS_TELL)
    gained, lost = int((gain > 0).sum()), int((gain < 0).sum())
    return LabelUse(
        told=errors(),
        other=errors(hide=True) if hidden else errors(y=wrong),
        hidden=hidden,
        num_pixels=split.images[0].numel(),
        comparable=int(_differ(wrong, split.labels.cpu()).reshape(len(wrong), -1).any(1).sum()),
        certainty=(gained - lost) / math.sqrt(max(1, gained + lost)),
    )


def _wrong_labels(labels: Tensor, conditioning: Conditioning) -> Tensor:
    """Another class for each image; or the attributes or numbers of another image."""
    generator = generator_for("wrong labels")
    if labels.ndim == 2:
        return labels.cpu()[torch.randperm(len(labels), generator=generator)]
    num_classes = len(conditioning.label_names)
    shift = torch.randint(1, max(2, num_classes), labels.shape, generator=generator)
    return (labels.cpu() + shift) % num_classes


def _differ(first: Tensor, second: Tensor) -> Tensor:
    """Where labels differ; two that are missing are the same."""
    differ = first != second
    return differ & ~(first.isnan() & second.isnan()) if first.is_floating_point() else differ
