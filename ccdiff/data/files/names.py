"""What images show by where they lie: in folders of classes, in ``train`` and ``test``.

Everything here is a function of names alone. Where the names can be read in two ways, the message
shows both and the setting that decides.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ccdiff.data.files.splits import mentions, split_of
from ccdiff.errors import UserError

__all__ = [
    "ONE_CLASS",
    "NameSettings",
    "NamedClasses",
    "classes_by_name",
    "nearly_alike",
]

ONE_CLASS = "image"
_IMAGES = frozenset({"images", "image", "img", "imgs", "jpegimages", "pictures", "photos", "jpg"})
_OTHERS = frozenset(
    {"annotations", "annotation", "masks", "mask", "labels", "label", "segmentation"}
    | {"segmentations", "segmentationclass", "segmentationobject", "trimaps", "gt", "depth"}
    | {"ground_truth", "groundtruth", "edges", "thumbnails", "bboxes", "boxes"}
)
_MASK_OF = re.compile(
    r"^(.+)[_-](?:mask|masks|seg|segmentation|gt|label|trimap|annotation)(?:_\d+)?$"
)
_NUMBERED = re.compile(r"^(.*?)[\W_]*\d+[\W_]*$")
_MAX_SHOWN = 6
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
        f"different labels with names nearly alike: {_some(alike)}; rename them if they are one"
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
    names = _without_masks(names, told)
    at, names = _descend("", names, told)
    parts = _parts(at, names, where=where, settings=settings, told=told)
    says = any(heldout is not None for _, _, heldout in parts)
    label_of: dict[str, str] = {}
    held_of: dict[str, bool] = {}
    for place, inner, heldout in parts:
        if says:
            place, inner = _descend(place, inner, told)
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


def _level(at: str, names: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The files directly in the folder ``at``, and those of each of its folders."""
    loose: list[str] = []
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        first, slash, _ = name[len(at) :].partition("/")
        (folders[first] if slash else loose).append(name)
    return loose, dict(folders)


def _without_masks(names: Sequence[str], told: list[str]) -> list[str]:
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


def _descend(at: str, names: Sequence[str], told: list[str]) -> tuple[str, list[str]]:
    """Into folders that wrap all others, and into ``images`` where masks lie beside it."""
    names = list(names)
    while True:
        loose, folders = _level(at, names)
        if loose or not folders:
            return at, names
        images = [name for name in folders if name.lower() in _IMAGES]
        others = [name for name in folders if name.lower() in _OTHERS]
        if len(images) == 1 and len(images) + len(others) == len(folders):
            if others:
                n = sum(len(folders[name]) for name in others)
                told.append(f"{n} images in {', '.join(others)}, beside {images[0]}, are not used")
            at, names = f"{at}{images[0]}/", folders[images[0]]
            continue
        if len(folders) != 1:
            return at, names
        ((only, inner),) = folders.items()
        if not _level(f"{at}{only}/", inner)[1]:
            return at, names
        at = f"{at}{only}/"


_Part = tuple[str, list[str], bool | None]


def _parts(
    at: str, names: list[str], *, where: str, settings: NameSettings, told: list[str]
) -> list[_Part]:
    """Folder, images and whether they are held out, of each part of a split, or of the whole."""
    whole: list[_Part] = [(at, names, None)]
    loose, folders = _level(at, names)
    if settings.split_folders is False or len(folders) < 2:
        return whole
    kind = mentions if settings.split_folders else split_of
    says = {name: held for name in folders if (held := kind(name)) is not None}
    parts: list[_Part] = [(f"{at}{name}/", folders[name], held) for name, held in says.items()]
    both = set(says.values()) == {True, False}
    beside = [name for name in folders if name not in says]
    if settings.split_folders:
        if not both:
            raise UserError(f"{where} has no two folders that are called after train and test")
    elif says and not beside and not loose:
        if not both and True in says.values():
            raise _two_readings(
                where,
                f"{_some(says)}: a class each",
                "data.split_folders=false",
                "images that are all held out",
                f"a folder train beside them, or data.root={where}/<one of them>",
            )
    elif both and all(_level(f"{at}{name}/", folders[name])[1] for name in says):
        pass  # Each of them has folders of its own, the classes.
    elif says and (both or any(_level(f"{at}{name}/", folders[name])[1] for name in says)):
        raise _two_readings(
            where,
            f"the classes {_some(folders)}",
            "data.split_folders=false",
            f"a split into {_some(says)}, with {_some(beside) or 'images'} beside it",
            "data.split_folders=true",
        )
    else:
        hints = {mentions(name) for name in folders} - {None}
        if len(hints) == 2:
            raise _two_readings(
                where,
                f"the classes {_some(folders)}",
                "data.split_folders=false",
                "a split into training and test images",
                "data.split_folders=true",
            )
        return whole
    if beside or loose:
        n = sum(len(folders[name]) for name in beside) + len(loose)
        told.append(
            f"{n} images ({_some(beside) or loose[0]}) beside {_some(says)} are not used; "
            f"data.split_folders=false makes each folder a class"
        )
    return parts


def _labels(at: str, names: list[str], *, where: str, settings: NameSettings) -> dict[str, str]:
    """The class of each image under ``at``."""
    how = settings.classes
    loose, folders = _level(at, names)
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
    odd = [folder for folder in folders if folder.lower() in _OTHERS]
    if odd and len(folders) > 1:
        raise _two_readings(
            where,
            f"the classes {_some(folders)}",
            "data.classes=folders",
            f"images, and {_some(odd)} that say something of them",
            "data.images=<the folder of the images>",
        )
    if _are_shards(at, folders):
        raise _two_readings(
            where,
            f"the classes {_some(folders)}",
            "data.classes=folders",
            "folders that only part one long list of images",
            "data.classes=none",
        )
    inner_loose = [name for f, inner in folders.items() for name in _level(f"{at}{f}/", inner)[0]]
    inner_folders = [_level(f"{at}{f}/", inner)[1] for f, inner in folders.items()]
    if not inner_loose and all(len(inside) > 1 for inside in inner_folders):
        deepest = Counter(name for inside in inner_folders for name in inside)
        raise _two_readings(
            where,
            f"the classes {_some(folders)}",
            "data.classes=folders",
            f"the classes {_some(deepest)}",
            "data.classes=deepest",
        )
    return outer


def _flat(names: list[str], *, where: str) -> dict[str, str]:
    """Images that lie together: one class, unless their names begin in several ways."""
    prefixes = Counter(map(_prefix, names))
    if len(prefixes) > 1 and min(prefixes.values()) > 1:
        raise _two_readings(
            where,
            "images of one class",
            "data.classes=none",
            f"the classes {_some(prefixes)}, which their names begin with",
            "data.classes=prefix",
        )
    return dict.fromkeys(names, ONE_CLASS)


def _prefix(name: str) -> str:
    """What a file name begins with, up to the number at its end or else the first separator."""
    stem = PurePosixPath(name).stem
    match = _NUMBERED.match(stem)
    begin = match[1] if match else re.split(r"[\W_]", stem, maxsplit=1)[0]
    return begin or ONE_CLASS


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


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _MAX_SHOWN} more" if len(listed) > _MAX_SHOWN else ""
    return ", ".join(listed[:_MAX_SHOWN]) + more


def _two_readings(where: str, one: str, first: str, other: str, second: str) -> UserError:
    return UserError(
        f"{where} can be read in two ways:\n  {one}: pass {first}\n  {other}: pass {second}"
    )
