"""What each figure means and which way is better. Nothing here needs torch.

A figure is called ``<kind>``, ``<kind>_<extractor>`` or ``<kind>_<extractor>_to_<split>``, and
logged under the name of the group that took it: ``evaluate/fd_classifier_to_heldout``.
"""

import math
from typing import Literal, NamedTuple

__all__ = ["Better", "Definition", "definition"]

Better = Literal["higher", "lower"]


class Definition(NamedTuple):
    """What a figure is.

    Arguments:
        meaning: In a few words, for a reader.
        better: Which way is better; None where a certain value is right, or neither is known.
        least: No value is below it.
        most: None is above it.
    """

    meaning: str
    better: Better | None
    least: float = -math.inf
    most: float = math.inf


_OF_SAMPLES = {
    "label_agreement": Definition(
        "share of samples that show their class, or mean of both recalls of attributes; up to 1",
        "higher",
        least=0,
        most=1,
    ),
    "label_error": Definition(
        "how far numbers found in samples are from those asked for, standardised; down to 0",
        "lower",
        least=0,
    ),
    "fd": Definition(
        "Fréchet distance of features: fidelity and diversity together; down to 0",
        "lower",
        least=0,
    ),
    "fid": Definition("Fréchet distance of Inception features; down to 0", "lower", least=0),
    "kd": Definition("kernel distance of features, unbiased in n; down to about 0", "lower"),
    "kid": Definition(
        "kernel distance of Inception features, unbiased in n; down to about 0", "lower"
    ),
    # They rise as samples shrink towards the mean: what real images get is right, not the most.
    "precision": Definition(
        "against real images: share of samples among them; right is what real images get", None
    ),
    "recall": Definition(
        "share of real images among samples: diversity; up to 1", "higher", least=0, most=1
    ),
    "density": Definition(
        "against real images: how densely they surround samples; right is what real images get",
        None,
    ),
    "coverage": Definition(
        "against real images: share of them with a sample nearby; right is what real images get",
        None,
    ),
    "spread_ratio": Definition(
        "how far features spread about their mean, samples over real images; 1 is right", None
    ),
    "score": Definition(
        "sure of each, varied over all: 1 to the number of classes", "higher", least=1
    ),
    "inception_score": Definition(
        "sure of each, varied over all; higher is better", "higher", least=1
    ),
    "sliced_wasserstein": Definition(
        "how far points must be moved along a line, mean over lines (root mean square); down to 0",
        "lower",
        least=0,
    ),
    "energy_distance": Definition(
        "how much farther points are from real ones than these are from each other; down to "
        "about 0",
        "lower",
    ),
    "copying": Definition(
        "0.5: no nearer to training images than held-out ones are; towards 1: copies", None
    ),
    "copies": Definition(
        "share of samples three times as near to one training image as to any other", None
    ),
    "copies_heldout": Definition(
        "the same share of held-out images, which are none: what chance explains", None
    ),
}
_OF_MODELS = {
    "heldout_eps_mse": Definition(
        "error on the noise of held-out images, mean over log-SNR -12..12; down", "lower", least=0
    ),
    "label_gain_null": Definition(
        "by how much the label lowers that error, against no label; above 0", "higher"
    ),
    "label_gain_wrong_label": Definition(
        "by how much the label lowers that error, against a wrong one", "higher"
    ),
    "label_certainty": Definition(
        "by how many standard deviations the label helps; above 3 is sure", "higher"
    ),
    "label_bits_null": Definition(
        "bits that the label saves per image; its entropy at most, if ideal", "higher"
    ),
    "label_bits_wrong_label": Definition(
        "the same in bits per image, against a wrong label", "higher"
    ),
    "bits_per_dimension": Definition(
        "upper bound on bits for each 8-bit number of a held-out image; down", "lower"
    ),
    "bits_per_dimension_error": Definition(
        "how far off the integration behind that figure may be, at most", "lower"
    ),
    "excess_eps_mse": Definition(
        "mean squared difference to the exact estimate of the noise, over log-SNR -12..12; "
        "down to 0",
        "lower",
        least=0,
    ),
    "nats_per_point": Definition(
        "negative log-density of held-out points given their labels; down to that of the exact "
        "density",
        "lower",
    ),
    "nats_per_point_error": Definition(
        "how far off the integration behind that figure may be, at most", "lower"
    ),
    "heldout/excess_eps_mse": Definition(
        "mean squared difference to the exact estimate of the noise, over log-SNR -12..12; "
        "down to 0",
        "lower",
        least=0,
    ),
    "heldout/eps_mse": Definition(
        "error on the noise of held-out images, mean over log-SNR -12..12; down", "lower", least=0
    ),
    "heldout/gap": Definition(
        "by what share that error exceeds the one on training images; about 0 is right", None
    ),
    # What it measures differs between schedules, predictions and weightings.
    "train/loss": Definition("mean loss since the last row", None),
    "train/images_per_second": Definition("speed of training", "higher"),
}


def definition(figure: str) -> Definition | None:
    """What a figure is, by its name or the key it is logged under; None for one of somebody else.

    Arguments:
        figure: Such as ``fd_classifier``, ``evaluate/fd_inception_to_heldout`` or ``train/loss``.
    """
    if figure in _OF_MODELS:
        return _OF_MODELS[figure]
    group, slash, name = figure.rpartition("/")
    if slash and group != "evaluate":
        return None
    if name in _OF_MODELS:
        return _OF_MODELS[name]
    # The longest first: "inception_score" is no score of an extractor.
    for kind in sorted(_OF_SAMPLES, key=len, reverse=True):
        if name == kind or name.startswith((f"{kind}_", f"{kind}_to_")):
            return _OF_SAMPLES[kind]
    return None
