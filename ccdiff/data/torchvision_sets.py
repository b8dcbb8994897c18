"""Known sets through torchvision, with its downloads and checksums."""

import pickle
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ccdiff.data.core import DataSet, Split
from ccdiff.errors import UserError

__all__ = ["CIFAR10", "CIFAR100", "EMNIST", "KMNIST", "MNIST", "STL10", "SVHN", "FashionMNIST"]

_LOWER = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
# Capitals whose small letters look alike stand for both.
_MERGED = [*_DIGITS, *_LOWER.upper(), *"abdefghnqrt"]
_EMNIST_NAMES = {
    "letters": list(_LOWER),
    "digits": list(_DIGITS),
    "mnist": list(_DIGITS),
    "balanced": _MERGED,
    "bymerge": _MERGED,
    "byclass": [*_DIGITS, *_LOWER.upper(), *_LOWER],
}

_ARRAY_PARTS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}
"""What pickles of arrays are made of, over the versions of numpy and Python."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Torchvision(DataSet):
    """Shared by the data sets of torchvision; the test split is held out.

    Arguments:
        root: Folder of the data sets, as torchvision lays it out.
        download: Whether to fetch what is missing.

    The others as for :class:`~ccdiff.data.core.DataSet`.
    """

    root: str
    download: bool

    @property
    def folder(self) -> Path:
        """``root``, whose ``~`` no shell wrote out where it stands in a recipe."""
        return Path(self.root).expanduser()

    @abstractmethod
    def open(self, *, train: bool, download: bool) -> Any:
        """The torchvision data set, with ``data`` and ``targets``."""

    @abstractmethod
    def images(self, data: Any) -> Tensor:
        """uint8 [N, C, H, W] from torchvision's ``data``."""

    def labels(self, source: Any) -> Tensor:
        """int64 [N] of the torchvision data set."""
        return torch.as_tensor(source.targets).long()

    def read(self) -> tuple[Split, Split]:
        return self._split(train=True), self._split(train=False)

    def _split(self, *, train: bool) -> Split:
        name = type(self).__name__
        try:
            # First without the download: a complete copy must not be fetched or hashed again.
            source = self._open_or_download(train=train)
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"{name} is not in {self.folder.absolute()} and could not be downloaded: {error}\n"
                f"Where there is a network, fetch it with\n"
                f'    python -c "from torchvision.datasets import {name}; '
                f"{name}('{self.folder}', download=True)\"\n"
                f"then copy the folder and pass data.root=<folder>."
            ) from error
        return Split(self.images(source.data), self.labels(source))

    def _open_or_download(self, *, train: bool) -> Any:
        try:
            return self.open(train=train, download=False)
        except RuntimeError:
            if not self.download:
                raise
        return self.open(train=train, download=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class MNIST(_Torchvision):
    """70,000 handwritten digits, 28 x 28 gray (LeCun et al., 1998); 10,000 are held out."""

    def open(self, *, train: bool, download: bool) -> Any:
        from torchvision.datasets import MNIST as Source

        return Source(self.folder, train=train, download=download)

    def images(self, data: Any) -> Tensor:
        return data.unsqueeze(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class FashionMNIST(MNIST):
    """70,000 articles of clothing, 28 x 28 gray (Xiao et al., 2017); 10,000 are held out."""

    def open(self, *, train: bool, download: bool) -> Any:
        from torchvision.datasets import FashionMNIST as Source

        return Source(self.folder, train=train, download=download)


@dataclass(frozen=True, kw_only=True, eq=False)
class KMNIST(MNIST):
    """70,000 cursive Japanese characters, 28 x 28 gray (Clanuwat et al., 2018)."""

    def open(self, *, train: bool, download: bool) -> Any:
        from torchvision.datasets import KMNIST as Source

        return Source(self.folder, train=train, download=download)


@dataclass(frozen=True, kw_only=True, eq=False)
class EMNIST(MNIST):
    """Handwritten letters and digits, 28 x 28 gray (Cohen et al., 2017).

    The files hold images that are transposed, and letters that are counted from 1; here images
    stand upright and classes start at 0.

    Arguments:
        split: ``letters``, ``digits``, ``balanced``, ``byclass``, ``bymerge`` or ``mnist``.

    The others are as for torchvision's sets; ``label_names`` may be left out.
    """

    split: str = "letters"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split not in _EMNIST_NAMES:
            raise UserError(
                f"data.split must be one of {', '.join(_EMNIST_NAMES)}, got {self.split!r}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return super().names or tuple(_EMNIST_NAMES[self.split])

    def open(self, *, train: bool, download: bool) -> Any:
        from torchvision.datasets import EMNIST as Source

        return Source(self.folder, split=self.split, train=train, download=download)

    def images(self, data: Any) -> Tensor:
        return data.transpose(1, 2).unsqueeze(1).contiguous()

    def labels(self, source: Any) -> Tensor:
        return super().labels(source) - (1 if self.split == "letters" else 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class SVHN(_Torchvision):
    """99,289 digits of house numbers, 32 x 32 RGB (Netzer et al., 2011); 26,032 are held out."""

    def open(self, *, train: bool, download: bool) -> Any:
        from torchvision.datasets import SVHN as Source

        return Source(self.folder, split="train" if train else "test", download=download)

    def images(self, data: Any) -> Tensor:
        return torch.from_numpy(data).contiguous()

    def labels(self, source: Any) -> Tensor:
        return torch.as_tensor(source.labels).long()


@dataclass(frozen=True, kw_only=True, eq=False)
class STL10(SVHN):
    """13,000 labelled photographs of ten classes, 96 x 96 RGB (Coates et al., 2011).

    8,000 of them are held out, as published; the unlabelled images are not used.
    """

    def open(self, *, train: bool, download: bool) -> Any:
        from torchvision.datasets import STL10 as Source

        return Source(self.folder, split="train" if train else "test", download=download)


class _ArraysOnly(pickle.Unpickler):
    """Builds arrays and plain values; any other class or function may run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy._core", "numpy.core"), name) not in _ARRAY_PARTS:
            raise UserError(
                f"a pickle asks for {module}.{name}, which no array needs: it is unsafe"
            )
        return super().find_class(module, name)


def _read_arrays(paths: Sequence[Path], labels: str) -> SimpleNamespace:
    """The batches of CIFAR: ``data`` uint8 [N, 32, 32, 3] and ``targets`` [N].

    Arguments:
        paths: Their files.
        labels: The entry that holds the labels.

    Raises:
        RuntimeError: Where a file is missing.
        UserError: Where one is no such batch.
    """
    data, targets = [], []
    for path in paths:
        try:
            with path.open("rb") as file:
                batch = _ArraysOnly(file, encoding="latin1").load()
            data.append(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
            targets += [int(label) for label in batch[labels]]
        except FileNotFoundError as error:
            raise RuntimeError(f"{path} is missing") from error
        except (UserError, OSError, MemoryError):
            raise
        # Unpicklers raise almost anything on malformed bytes.
        except Exception as error:
            raise UserError(f"{path} is not a batch of CIFAR: {error}") from error
    return SimpleNamespace(data=np.concatenate(data).transpose(0, 2, 3, 1), targets=targets)


@dataclass(frozen=True, kw_only=True, eq=False)
class CIFAR10(_Torchvision):
    """60,000 photographs of ten classes, 32 x 32 RGB (Krizhevsky, 2009); 10,000 are held out.

    Arguments:
        verify: Whether the files must have the published checksums. They are pickles; without
            the checksums they are read by an unpickler that knows arrays and plain values only.

    The others are as for torchvision's sets.
    """

    verify: bool = True

    def source(self) -> Any:
        """The class of torchvision, and the entry of its files that holds the labels."""
        from torchvision.datasets import CIFAR10 as Source

        return Source, "labels"

    def open(self, *, train: bool, download: bool) -> Any:
        source, labels = self.source()
        folder = self.folder / source.base_folder
        if not self.verify and not download:
            files = source.train_list if train else source.test_list
            return _read_arrays([folder / name for name, _ in files], labels)
        if self.verify and download and folder.exists():
            # torchvision would download over it.
            raise UserError(
                f"{folder} is not the published {type(self).__name__}: a file is missing or its "
                f"checksum differs. Remove the folder to have it fetched anew, or, if the copy is "
                f"your own, pass data.verify=false"
            )
        return source(self.folder, train=train, download=download)

    def images(self, data: Any) -> Tensor:
        return torch.from_numpy(data).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True, kw_only=True, eq=False)
class CIFAR100(CIFAR10):
    """60,000 photographs of a hundred classes, 32 x 32 RGB (Krizhevsky, 2009).

    Arguments: as for :class:`CIFAR10`.
    """

    def source(self) -> Any:
        from torchvision.datasets import CIFAR100 as Source

        return Source, "fine_labels"
