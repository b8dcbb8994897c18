"""MNIST and CIFAR-10 through torchvision, with its downloads and checksums."""

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

__all__ = ["CIFAR10", "MNIST"]

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
        return Split(self.images(source.data), torch.as_tensor(source.targets).long())

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


class _ArraysOnly(pickle.Unpickler):
    """Builds arrays and plain values; any other class or function may run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy._core", "numpy.core"), name) not in _ARRAY_PARTS:
            raise UserError(
                f"a pickle asks for {module}.{name}, which no array needs: it is unsafe"
            )
        return super().find_class(module, name)


def _read_arrays(paths: Sequence[Path]) -> SimpleNamespace:
    """The batches of CIFAR-10: ``data`` uint8 [N, 32, 32, 3] and ``targets`` [N].

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
            targets += [int(label) for label in batch["labels"]]
        except FileNotFoundError as error:
            raise RuntimeError(f"{path} is missing") from error
        except (UserError, OSError, MemoryError):
            raise
        # Unpicklers raise almost anything on malformed bytes.
        except Exception as error:
            raise UserError(f"{path} is not a batch of CIFAR-10: {error}") from error
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

    def open(self, *, train: bool, download: bool) -> Any:
        from torchvision.datasets import CIFAR10 as Source

        if not self.verify and not download:
            files = Source.train_list if train else Source.test_list
            return _read_arrays([self.folder / Source.base_folder / name for name, _ in files])
        if self.verify and download and (self.folder / Source.base_folder).exists():
            # torchvision would download over it.
            raise UserError(
                f"{self.folder / Source.base_folder} is not the published CIFAR-10: a file is "
                f"missing or its checksum differs. Remove the folder to have it fetched anew, or, "
                f"if the copy is your own, pass data.verify=false"
            )
        return Source(self.folder, train=train, download=download)

    def images(self, data: Any) -> Tensor:
        return torch.from_numpy(data).permute(0, 3, 1, 2).contiguous()
