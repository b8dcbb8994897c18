"""CelebA-HQ: 30,000 faces, in every layout in which people have it.

Karras et al., Progressive Growing of GANs for Improved Quality, Stability, and Variation, 2018
(arXiv:1710.10196); attributes of Liu et al., Deep Learning Face Attributes in the Wild, 2015
(arXiv:1411.7766), as Lee et al. pass them on in CelebAMask-HQ, 2020 (arXiv:1907.11922).
"""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccdiff.data.files.delimited import read_annotations
from ccdiff.data.files.image_files import FilesInFolder
from ccdiff.data.files.listing import folders, inside
from ccdiff.data.files.names import ONE_CLASS, NamedClasses, NameSettings, classes_by_name
from ccdiff.data.files.parquet import find_parquet
from ccdiff.data.files.source import Source
from ccdiff.data.files.trees import FolderTree, TreeImages
from ccdiff.errors import UserError
from ccdiff.system.text import natural_key

__all__ = ["CelebAHQ"]

log = logging.getLogger(__name__)

_TITLE = "celebahq"
_IMAGES = "CelebA-HQ-img"
_ANNOTATIONS = "CelebAMask-HQ-attribute-anno.txt"
_SEXES = ("female", "male")
_MALE = "Male"
_FACE = "face"

_HELP = f"""\
CelebA-HQ was not found in {{root}} or the two levels of folders below it. These layouts are known:
1. CelebAMask-HQ, 1024 px and all 40 attributes: a folder with {_IMAGES}/*.jpg and
   {_ANNOTATIONS}
       https://github.com/switchablenorms/CelebAMask-HQ, or
       kaggle datasets download -d ipythonx/celebamaskhq --unzip -p data/celebamaskhq
2. Parquet files with the columns image and label, 256 px, female or male:
       hf download korexyz/celeba-hq-256x256 --repo-type dataset --local-dir data/celeba-hq
3. Class folders: female and male, alone or in train and val, as the download script of
       https://github.com/clovaai/stargan-v2 leaves them
4. A folder of images without attributes:
       kaggle datasets download -d badasstechie/celebahq-resized-256x256 --unzip -p data/celebahq
Put one of them in {{root}} (2 to 4 in a folder with "celeb" in its name), or pass
data.root=<its folder>."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CelebAHQ(FilesInFolder):
    """30,000 faces; the first layout that is found counts, in the order of the error message.

    CelebAMask-HQ brings 40 attributes. Sets that tell women from men bring the attribute Male,
    and images alone the attribute face, which all of them have.

    Arguments:
        root: The folder of the set, or a folder up to two levels above it.
        label_names: Of CelebAMask-HQ, for those who read the config; what is found counts.

    The others as for :class:`~ccdiff.data.files.image_files.ImageFiles`.
    """

    def classes_of(self, attribute: str) -> tuple[str, str]:
        return _SEXES if attribute == _MALE else super().classes_of(attribute)

    def find(self) -> Source:
        places = list(_places(self.folder))
        for layout, find in _LAYOUTS.items():
            for place in places:
                source = find(place, self.heldout) if self._may_be(place, find) else None
                if source is not None:
                    n = len(source.heldout)
                    log.info("CelebA-HQ: %d images in %s (%s)", n, place, layout)
                    return source
        told = _HELP.format(root=self.folder.absolute())
        lone = [place / _IMAGES for place in places if (place / _IMAGES).is_dir()]
        if lone:
            told += f"\n{lone[0]} is there, but {_ANNOTATIONS} is not beside it."
        raise UserError(told)

    def _may_be(self, place: Path, find: "_Find") -> bool:
        """Whether to look: CelebAMask-HQ alone is unmistakable, the others must be pointed at."""
        if place == self.folder or find is _celebamask:
            return True
        # Without its annotations, CelebAMask-HQ is incomplete and not another layout.
        return "celeb" in place.name.lower() and place.name != _IMAGES


def _places(root: Path) -> Iterator[Path]:
    """``root`` and the two levels of folders below it."""
    if not root.is_dir():
        return
    yield root
    children = [root / name for name in folders(root)]
    yield from children
    for child in children:
        if os.access(child, os.R_OK | os.X_OK):
            yield from (child / name for name in folders(child))


def _celebamask(place: Path, heldout: float) -> Source | None:
    table = place / _ANNOTATIONS
    if not table.is_file() or not (place / _IMAGES).is_dir():
        return None
    inside(place, table)
    text = FolderTree(place).text(_ANNOTATIONS)
    files, names, bits = read_annotations(text, str(table))
    order = sorted(range(len(files)), key=lambda i: natural_key(files[i]))
    return Source.of(
        _TITLE,
        TreeImages(FolderTree(inside(place, place / _IMAGES)), [files[i] for i in order]),
        np.array(bits, dtype=np.uint8).reshape(len(files), len(names))[order],
        names,
        heldout=None,
        fraction=heldout,
    )


def _parquet(place: Path, heldout: float) -> Source | None:
    folders_ = [folder for folder in (place, place / "data") if folder.is_dir()]
    names = [p.relative_to(place).as_posix() for f in folders_ for p in f.glob("[!.]*.parquet")]
    images = find_parquet(place, names)
    if images is None:
        return None
    rows = images.rows()
    if "label" not in rows[0]:
        raise UserError(f"the parquet files in {images.root} have no column called label")
    # Numbers where the files do not name the classes.
    told = [_SEXES[row["label"]] if row["label"] in (0, 1) else row["label"] for row in rows]
    unknown = {str(label) for label in told if str(label).lower() not in _SEXES}
    if unknown:
        raise UserError(
            f"the parquet files in {images.root} have labels other than {' and '.join(_SEXES)}: "
            f"{', '.join(sorted(unknown))}; are they CelebA-HQ?"
        )
    bits = np.array([[str(label).lower() == _SEXES[1]] for label in told], dtype=np.uint8)
    held = images.heldout
    return Source.of(
        _TITLE, images, bits, (_MALE,), heldout=held if held.any() else None, fraction=heldout
    )


def _by_name(place: Path) -> tuple[FolderTree, NamedClasses] | None:
    """The images of a folder and the classes that their places tell."""
    tree = FolderTree(place)
    if not tree.image_names:
        return None
    settings = NameSettings()
    try:
        return tree, classes_by_name(tree.image_names, where=str(place), settings=settings)
    except UserError:
        # Not in this layout; another one may fit.
        return None


def _class_folders(place: Path, heldout: float) -> Source | None:
    if (found := _by_name(place)) is None:
        return None
    tree, named = found
    if {label.lower() for label in named.labels} != set(_SEXES):
        return None
    bits = np.array([[label.lower() == _SEXES[1]] for label in named.labels], dtype=np.uint8)
    return _source(tree, named, bits, _MALE, heldout)


def _flat(place: Path, heldout: float) -> Source | None:
    if (found := _by_name(place)) is None or set(found[1].labels) != {ONE_CLASS}:
        return None
    tree, named = found
    return _source(tree, named, np.ones((len(named.files), 1), np.uint8), _FACE, heldout)


def _source(
    tree: FolderTree, named: NamedClasses, bits: np.ndarray, name: str, fraction: float
) -> Source:
    return Source.of(
        _TITLE,
        TreeImages(tree, named.files),
        bits,
        (name,),
        heldout=None if named.heldout is None else np.array(named.heldout),
        fraction=fraction,
    )


_Find = Callable[[Path, float], Source | None]
_LAYOUTS: dict[str, _Find] = {
    "CelebAMask-HQ": _celebamask,
    "parquet files": _parquet,
    "a folder for each sex": _class_folders,
    "images without attributes": _flat,
}
