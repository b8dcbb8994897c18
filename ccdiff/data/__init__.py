"""Data sets: uint8 images, or points of the plane, with labels and names."""

from ccdiff.data.batches import Batches
from ccdiff.data.core import (
    DataSet,
    ImageRows,
    Split,
    augment,
    image_shape,
    in_plane,
    order,
    to_data,
    to_float,
    to_uint8,
)
from ccdiff.data.describing import describe
from ccdiff.data.digits import Digits
from ccdiff.data.files.celebahq import CelebAHQ
from ccdiff.data.files.folder import Folder
from ccdiff.data.files.hub import Hub
from ccdiff.data.files.image_files import ImageFiles
from ccdiff.data.points import Gaussians, Moons, PointSet, Rings
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
    "Gaussians",
    "Hub",
    "ImageFiles",
    "ImageRows",
    "Moons",
    "PointSet",
    "Rings",
    "Split",
    "augment",
    "describe",
    "image_shape",
    "in_plane",
    "order",
    "to_data",
    "to_float",
    "to_uint8",
]
