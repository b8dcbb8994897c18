"""Data sets: uint8 images with labels and names."""

from ccdiff.data.core import Batches, DataSet, Split, augment, order, to_float, to_uint8
from ccdiff.data.digits import Digits
from ccdiff.data.torchvision_sets import CIFAR10, MNIST

__all__ = [
    "CIFAR10",
    "MNIST",
    "Batches",
    "DataSet",
    "Digits",
    "Split",
    "augment",
    "order",
    "to_float",
    "to_uint8",
]
