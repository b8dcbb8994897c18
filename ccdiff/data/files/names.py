"""What images show by where they lie: in folders of classes, in ``train`` and ``test``.

Everything here is a function of names alone. Where the names can be read in two ways, the message
shows both and the setting that decides.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ccdiff.data.files.levels import level, some, two_readings
from ccdiff.data.files.split_folders import OTHERS, descend, parts, without_masks
from ccdiff.errors import UserError

__all__ = [
    "ONE_CLASS",
    "NameSettings",
    "NamedClasses",
    "classes_by_name",
    "nearly_alike",
]

ONE_CLASS = "image"
_HASH = re.compile("[0-9a-f]{16,}")
_NUMBERED = re.compile(r"^(.*?)[\W_]*\d+[\W_]*$")
CLASSES = ("auto", "table", "folders", "deepest", "prefix", "none")


@dataclass(frozen=True, kw_only=True)
class NameSettings:
    """How names are read.

    Arguments:
        classes: ``folders`` takes the outermost folders as classes and ``deepest`` the innermost,
            ``prefix`` what file names begin with, ``none`` makes all images one class; ``auto``
            takes folders where there are any, and refuses what can be read in two ways.
        split_folders: Whether folders called train and test are a split and no classes; None
            decides by what lies in them and beside them.
    """

    classes: str = "auto"
    split_folders: bool | None = None

    def __post_init__(self) -> None:
        if self.classes not in CLASSES:
            raise UserError(
                f"data.classes must be one of {', '.join(CLASSES)}, got {self.classes!r}"
            )


@dataclass(frozen=True, kw_only=True)
class NamedClasses:
    """What names say of images.

    Arguments:
        files: The images.
        labels: The class of each.
        heldout: Whether each is held out; none where nothing says so.
        told: What a user should know of the reading.
    """

    files: list[str]
    labels: list[str]
    heldout: list[bool] | None
    told: list[str] = field(default_factory=list)


def nearly_alike(labels: Sequence[str]) -> list[str]:
    """What to say of names of labels that may be meant to be one, Cat and cat or 01 and 1."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        # Of a number the value counts, and of words the letters.
        plain = re.sub(r"[\s_-]+", " ", label.casefold()).strip()
        groups[plain.lstrip("0") or "0" if plain.isdecimal() else plain].append(label)
    alike = [" and ".join(group) for group in groups.values() if len(group) > 1]
    if not alike:
        return []
    return [
        f"different labels with names nearly alike: {some(alike)}; rename them if they are one"
    ]


def classes_by_name(names: Sequence[str], *, where: str, settings: NameSettings) -> NamedClasses:
    """Classes of images, told by their names.

    Arguments:
        names: Relative paths, in order.
        where: Names their folder in messages.
        settings: How to read them.

    Raises:
        UserError: Where the names can be read in two ways, or what is held out has other classes.
    """
    told: list[str] = []
    names = without_masks(names, told)
    at, names = descend("", names, told)
    found = parts(at, names, where=where, split_folders=settings.split_folders, told=told)
    says = any(heldout is not None for _, _, heldout in found)
    label_of: dict[str, str] = {}
    held_of: dict[str, bool] = {}
    for place, inner, heldout in found:
        if says:
            place, inner = descend(place, inner, told)
        for name, label in _labels(place, inner, where=where, settings=settings).items():
            label_of[name], held_of[name] = label, bool(heldout)
    files = [name for name in names if name in label_of]
    labels = [label_of[name] for name in files]
    held = [held_of[name] for name in files]
    if any(held):
        trained = {label for label, heldout in zip(labels, held, strict=True) if not heldout}
        if set(labels) - trained == {ONE_CLASS}:
            loose = next(
                name for name, label in zip(files, labels, strict=True) if label == ONE_CLASS
            )
            raise UserError(
                f"{where}: what is held out lies in no folders of classes ({loose}), as the "
                f"training images do: pass data.root={where}/<the folder of training images> to "
                f"draw held-out images from them, or sort these too"
            )
        if untrained := sorted(set(labels) - trained):
            raise UserError(f"{where} has no training images of {', '.join(untrained)}")
    return NamedClasses(files=files, labels=labels, heldout=held if any(held) else None, told=told)


def _labels(at: str, names: list[str], *, where: str, settings: NameSettings) -> dict[str, str]:
    """The class of each image under ``at``."""
    how = settings.classes
    loose, folders = level(at, names)
    if how == "none":
        return dict.fromkeys(names, ONE_CLASS)
    if how == "prefix":
        return {name: _prefix(name) for name in names}
    if how == "deepest":
        return {name: PurePosixPath(name).parent.name or ONE_CLASS for name in names}
    outer = {name: folder for folder, inner in folders.items() for name in inner}
    if how == "folders":
        return outer
    if loose and folders:
        raise UserError(
            f"{where} holds images ({loose[0]!r}) beside folders of images "
            f"({min(folders)!r}): move either away, or pass data.classes=folders to use the "
            f"folders alone, or data.classes=none to make all images one class"
        )
    if not folders:
        return _flat(loose, where=where)
    odd = [folder for folder in folders if folder.lower() in OTHERS]
    if odd and len(folders) > 1:
        raise two_readings(
            where,
            f"the classes {some(folders)}",
            "data.classes=folders",
            f"images, and {some(odd)} that say something of them",
            "data.images=<the folder of the images>",
        )
    if _are_shards(at, folders) or _are_buckets(at, folders):
        raise two_readings(
            where,
            f"the classes {some(folders)}",
            "data.classes=folders",
            "folders that only part one long list of images",
            "data.classes=none",
        )
    inner_loose = [name for f, inner in folders.items() for name in level(f"{at}{f}/", inner)[0]]
    inner_folders = [level(f"{at}{f}/", inner)[1] for f, inner in folders.items()]
    if not inner_loose and all(len(inside) > 1 for inside in inner_folders):
        deepest = Counter(PurePosixPath(name).parent.name for name in names)
        raise two_readings(
            where,
            f"the classes {some(folders)}",
            "data.classes=folders",
            f"the classes {some(deepest)}",
            "data.classes=deepest",
        )
    return outer


def _flat(names: list[str], *, where: str) -> dict[str, str]:
    """Images that lie together: one class, unless their names begin in several ways."""
    prefixes = Counter(map(_prefix, names))
    if len(prefixes) > 1 and min(prefixes.values()) > 1:
        raise two_readings(
            where,
            "images of one class",
            "data.classes=none",
            f"the classes {some(prefixes)}, which their names begin with",
            "data.classes=prefix",
        )
    return dict.fromkeys(names, ONE_CLASS)


def _prefix(name: str) -> str:
    """What a file name begins with, up to the number at its end or else the first separator."""
    stem = PurePosixPath(name).stem
    match = _NUMBERED.match(stem)
    begin = match[1] if match else re.split(r"[\W_]", stem, maxsplit=1)[0]
    return begin or ONE_CLASS


def _are_buckets(at: str, folders: dict[str, list[str]]) -> bool:
    """Whether folders only repeat the beginning or the end of the names of their files.

    So large sets are spread over folders: ``0042/1042.jpg``, ``3f/3fa2c8...jpg``.
    """
    length = len(next(iter(folders)))
    if length < 2 or any(len(name) != length for name in folders) or len(folders) < 2:
        return False
    pairs = [
        (folder, PurePosixPath(name).stem) for folder, inner in folders.items() for name in inner
    ]
    numbered = all(folder.isdecimal() and stem.isdecimal() for folder, stem in pairs)
    by_number = numbered and any(
        all(_last(stem, digits) == folder.lstrip("0") for folder, stem in pairs)
        for digits in range(1, length + 1)
    )
    by_hash = all(
        _HASH.fullmatch(stem) and stem.startswith(folder) and stem != folder
        for folder, stem in pairs
    )
    return by_number or by_hash


def _last(number: str, digits: int) -> str:
    """The last digits of a number, without zeros before them."""
    return number[-digits:].lstrip("0")


def _are_shards(at: str, folders: dict[str, list[str]]) -> bool:
    """Whether numbered folders hold files whose numbers go on from folder to folder."""
    if len(folders) < 2 or not all(folder.isdecimal() for folder in folders):
        return False
    last = -1
    for folder in sorted(folders, key=int):
        numbers = []
        for name in folders[folder]:
            digits = re.search(r"(\d+)$", PurePosixPath(name).stem)
            if digits is None:
                return False
            numbers.append(int(digits[1]))
        if min(numbers) <= last:
            return False
        last = max(numbers)
    return True
