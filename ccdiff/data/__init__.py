"""Data sets: uint8 images with labels and names."""

from ccdiff.data.batches import Batches
from ccdiff.data.core import (
    DataSet,
    ImageRows,
    Split,
    augment,
    describe,
    image_shape,
    order,
    to_float,
    to_uint8,
)
from ccdiff.data.digits import Digits
from ccdiff.data.files.celebahq import CelebAHQ
from ccdiff.data.files.folder import Folder
from ccdiff.data.files.hub import Hub
from ccdiff.data.files.image_files import ImageFiles
from ccdiff.data.torchvision_sets import (
    CIFAR10,
    CIFAR100,
    EMNIST,
    KMNIST,
    MNIST,
    STL10,
    SVHN,
    FashionMNIST,
)

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "STL10",
    "SVHN",
    "Batches",
    "CelebAHQ",
    "DataSet",
    "Digits",
    "FashionMNIST",
    "Folder",
    "Hub",
    "ImageFiles",
    "ImageRows",
    "Split",
    "augment",
    "describe",
    "image_shape",
    "order",
    "to_float",
    "to_uint8",
]
