"""Folders that are named after what the images in them show."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccdiff.data.files.listing import folders, list_images, natural_key
from ccdiff.data.files.source import FileImages, Source, every_nth
from ccdiff.errors import UserError

__all__ = ["HELD_OUT", "ONE_CLASS", "TRAIN", "Part", "from_class_folders", "parts"]

TRAIN = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "test", "heldout")
ONE_CLASS = "image"


@dataclass(frozen=True)
class Part:
    """The images under one folder.

    Arguments:
        folder: Relative path.
        label: Their class.
        heldout: Whether they are held out, where the layout says so.
    """

    folder: str
    label: str = ONE_CLASS
    heldout: bool | None = None


def parts(root: Path) -> list[Part]:
    """The folders that images are looked for in; none where ``root`` has no folders."""
    names = folders(root)
    splits = {n: n.lower() in HELD_OUT for n in names if n.lower() in (*TRAIN, *HELD_OUT)}
    # Of cars, planes and trains, "train" is a class.
    if not names or len(splits) < len(names) or all(splits.values()):
        return [Part(name, name) for name in names]
    says = any(splits.values())
    return [
        Part(f"{split}/{name}" if name else split, name or ONE_CLASS, heldout if says else None)
        for split, heldout in splits.items()
        for name in folders(root / split) or [""]
    ]


def from_class_folders(root: Path, *, heldout: float) -> Source | None:
    """The images of a folder with a folder per class, or with images of one class.

    Arguments:
        root: Holds a folder per class, ``train`` and ``val`` that do, or images.
        heldout: Fraction to hold out where there is no such folder as ``val``.

    Raises:
        UserError: Where images lie both in ``root`` and in folders.
    """
    found = [(part, list_images(root, under=part.folder)) for part in parts(root)]
    found = [(part, files) for part, files in found if files]
    loose = list_images(root, deep=False)
    if found and loose:
        raise UserError(
            f"{root} holds images ({loose[0]!r}) beside folders of images "
            f"({found[0][0].folder!r}): move either away, so that it is clear what the classes are"
        )
    if loose:
        found = [(Part(""), loose)]
    if not found:
        return None
    classes = sorted({part.label for part, _ in found}, key=natural_key)
    number = {label: i for i, label in enumerate(classes)}
    index = np.array([number[part.label] for part, files in found for _ in files])
    files = [file for _, files in found for file in files]
    held = np.array([part.heldout is True for part, files in found for _ in files])
    if any(part.heldout for part, _ in found):
        if untrained := set(index.tolist()) - set(index[~held].tolist()):
            names = ", ".join(classes[i] for i in sorted(untrained))
            raise UserError(f"{root} has no training images of {names}")
    else:
        held = every_nth(len(files), heldout)
    return Source(
        title=root.resolve().name,
        images=FileImages(root, files),
        labels=index.astype(np.int64),
        label_names=tuple(classes),
        heldout=held,
    )
