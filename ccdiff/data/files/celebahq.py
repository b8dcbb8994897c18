"""CelebA-HQ: 30,000 faces, in every layout in which people have it.

Karras et al., Progressive Growing of GANs for Improved Quality, Stability, and Variation, 2018
(arXiv:1710.10196); attributes of Liu et al., Deep Learning Face Attributes in the Wild, 2015
(arXiv:1411.7766), as Lee et al. pass them on in CelebAMask-HQ, 2020 (arXiv:1907.11922).
"""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ccdiff.data.files.class_folders import ONE_CLASS, from_class_folders, parts
from ccdiff.data.files.image_files import ImageFiles
from ccdiff.data.files.listing import folders, inside, natural_key
from ccdiff.data.files.parquet import find_parquet
from ccdiff.data.files.source import FileImages, Source, every_nth
from ccdiff.errors import UserError

__all__ = ["CelebAHQ", "read_annotations"]

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
class CelebAHQ(ImageFiles):
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


def read_annotations(path: Path) -> tuple[list[str], tuple[str, ...], np.ndarray]:
    """Reads ``CelebAMask-HQ-attribute-anno.txt``.

    The first line counts the images, the second names the attributes, and each of the others names
    an image and says 1 or -1 for each attribute, all parted by spaces.

    Returns:
        File names, attribute names, and bits, uint8 [N, K].

    Raises:
        UserError: Where a line is not of that form or lines are missing.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text: {error}") from error
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    if len(rows) < 2 or len(rows[0][1]) != 1 or not rows[0][1][0].isdecimal():
        raise UserError(
            f"{path} does not begin with the number of images and a line of attribute names"
        )
    count, names = int(rows[0][1][0]), tuple(rows[1][1])
    files: dict[str, None] = {}
    bits = np.empty((len(rows) - 2, len(names)), dtype=np.uint8)
    for i, (number, (file, *values)) in enumerate(rows[2:]):
        if len(values) != len(names):
            raise UserError(
                f"line {number} of {path} has {len(values)} values for {len(names)} attributes"
            )
        if not {"1", "-1"}.issuperset(values):
            odd = next(value for value in values if value not in ("1", "-1"))
            raise UserError(f"line {number} of {path} has the value {odd!r}: use 1 or -1")
        if file in files:
            raise UserError(f"line {number} of {path} names {file} a second time")
        files[file] = None
        bits[i] = [value == "1" for value in values]
    if len(files) != count:
        raise UserError(
            f"{path} announces {count} images but names {len(files)}: it is incomplete, fetch it "
            f"again"
        )
    return list(files), names, bits


def _celebamask(place: Path, heldout: float) -> Source | None:
    table = place / _ANNOTATIONS
    if not table.is_file() or not (place / _IMAGES).is_dir():
        return None
    files, names, bits = read_annotations(inside(place, table))
    order = sorted(range(len(files)), key=lambda i: natural_key(files[i]))
    return Source(
        title=_TITLE,
        images=FileImages(inside(place, place / _IMAGES), [files[i] for i in order]),
        labels=bits[order],
        label_names=names,
        heldout=every_nth(len(files), heldout),
    )


def _parquet(place: Path, heldout: float) -> Source | None:
    images = find_parquet(place)
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
    return Source(
        title=_TITLE,
        images=images,
        labels=bits,
        label_names=(_MALE,),
        heldout=held if held.any() else every_nth(len(held), heldout),
    )


def _class_folders(place: Path, heldout: float) -> Source | None:
    if {part.label.lower() for part in parts(place)} != set(_SEXES):
        return None
    source = from_class_folders(place, heldout=heldout)
    if source is None:
        return None
    male = [name.lower() == _SEXES[1] for name in source.label_names]
    bits = np.array(male, dtype=np.uint8)[source.labels]
    return replace(source, title=_TITLE, labels=bits[:, None], label_names=(_MALE,))


def _flat(place: Path, heldout: float) -> Source | None:
    if any(part.label != ONE_CLASS for part in parts(place)):
        return None
    source = from_class_folders(place, heldout=heldout)
    if source is None:
        return None
    ones = np.ones((len(source.labels), 1), dtype=np.uint8)
    return replace(source, title=_TITLE, labels=ones, label_names=(_FACE,))


_Find = Callable[[Path, float], Source | None]
_LAYOUTS: dict[str, _Find] = {
    "CelebAMask-HQ": _celebamask,
    "parquet files": _parquet,
    "a folder for each sex": _class_folders,
    "images without attributes": _flat,
}
