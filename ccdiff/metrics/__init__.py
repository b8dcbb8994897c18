"""Judging images by a classifier of the same data: label agreement and Fréchet distance."""

from ccdiff.metrics.agreement import label_agreement
from ccdiff.metrics.classifier import Classifier, Judgement, load_classifier
from ccdiff.metrics.frechet import Moments, frechet_distance

__all__ = [
    "Classifier",
    "Judgement",
    "Moments",
    "frechet_distance",
    "label_agreement",
    "load_classifier",
]
