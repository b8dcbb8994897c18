"""Which folders hold the images, and which of them are the parts of a split: told by names."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from ccdiff.data.files.levels import level, some, two_readings
from ccdiff.data.files.splits import mentions, split_of
from ccdiff.errors import UserError

__all__ = ["OTHERS", "Part", "descend", "parts", "without_masks"]

_IMAGES = frozenset({"images", "image", "img", "imgs", "jpegimages", "pictures", "photos", "jpg"})
OTHERS = frozenset(
    {"annotations", "annotation", "masks", "mask", "labels", "label", "segmentation"}
    | {"segmentations", "segmentationclass", "segmentationobject", "trimaps", "gt", "depth"}
    | {"ground_truth", "groundtruth", "edges", "thumbnails", "bboxes", "boxes"}
)
_MASK_OF = re.compile(
    r"^(.+)[_-](?:mask|masks|seg|segmentation|gt|label|trimap|annotation)(?:_\d+)?$"
)


def without_masks(names: Sequence[str], told: list[str]) -> list[str]:
    """Leaves out images such as ``7_mask.png`` that lie beside a ``7.png``."""
    stems = {str(PurePosixPath(name).with_suffix("")) for name in names}
    masks = set()
    for name in names:
        path = PurePosixPath(name)
        if (match := _MASK_OF.match(path.stem)) and str(path.with_name(match[1])) in stems:
            masks.add(name)
    if masks:
        told.append(f"{len(masks)} masks such as {min(masks)} lie beside their images: not used")
    return [name for name in names if name not in masks]


def descend(at: str, names: Sequence[str], told: list[str]) -> tuple[str, list[str]]:
    """Into folders that wrap all others, and into ``images`` where masks lie beside it."""
    names = list(names)
    while True:
        loose, folders = level(at, names)
        if loose or not folders:
            return at, names
        images = [name for name in folders if name.lower() in _IMAGES]
        others = [name for name in folders if name.lower() in OTHERS]
        if len(images) == 1 and len(images) + len(others) == len(folders):
            if others:
                n = sum(len(folders[name]) for name in others)
                told.append(f"{n} images in {', '.join(others)}, beside {images[0]}, are not used")
            at, names = f"{at}{images[0]}/", folders[images[0]]
            continue
        if len(folders) != 1:
            return at, names
        ((only, inner),) = folders.items()
        if not level(f"{at}{only}/", inner)[1]:
            return at, names
        at = f"{at}{only}/"


Part = tuple[str, list[str], bool | None]


def parts(
    at: str, names: list[str], *, where: str, split_folders: bool | None, told: list[str]
) -> list[Part]:
    """Folder, images and whether they are held out, of each part of a split, or of the whole."""
    whole: list[Part] = [(at, names, None)]
    loose, folders = level(at, names)
    if split_folders is False or len(folders) < 2:
        return whole
    kind = mentions if split_folders else split_of
    says = {name: held for name in folders if (held := kind(name)) is not None}
    parts: list[Part] = [(f"{at}{name}/", folders[name], held) for name, held in says.items()]
    both = set(says.values()) == {True, False}
    beside = [name for name in folders if name not in says]
    if split_folders:
        if not both:
            raise UserError(f"{where} has no two folders that are called after train and test")
    elif says and not beside and not loose:
        if not both and True in says.values():
            raise two_readings(
                where,
                f"{some(says)}: a class each",
                "data.split_folders=false",
                "images that are all held out",
                f"a folder train beside them, or data.root={where}/<one of them>",
            )
    elif both and all(level(f"{at}{name}/", folders[name])[1] for name in says):
        pass  # Each of them has folders of its own, the classes.
    elif says and (both or any(level(f"{at}{name}/", folders[name])[1] for name in says)):
        raise two_readings(
            where,
            f"the classes {some(folders)}",
            "data.split_folders=false",
            f"a split into {some(says)}, with {some(beside) or 'images'} beside it",
            "data.split_folders=true",
        )
    else:
        hints = {mentions(name) for name in folders} - {None}
        if len(hints) == 2:
            raise two_readings(
                where,
                f"the classes {some(folders)}",
                "data.split_folders=false",
                "a split into training and test images",
                "data.split_folders=true",
            )
        return whole
    if beside or loose:
        n = sum(len(folders[name]) for name in beside) + len(loose)
        told.append(
            f"{n} images ({some(beside) or loose[0]}) beside {some(says)} are not used; "
            f"data.split_folders=false makes each folder a class"
        )
    return parts
