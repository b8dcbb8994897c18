"""Words that say what is held out: names of folders and files, cells of a column."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ccdiff.errors import UserError

__all__ = [
    "SPLIT_COLUMNS",
    "flag_column",
    "mentions",
    "read_bit",
    "read_flags",
    "read_split",
    "split_of",
    "told_apart",
]

SPLIT_COLUMNS = ("split", "partition")
# 1 says that an image is of the training part, or that it is not; as in CUB-200-2011.
_OF_TRAINING = ("is_train", "is_training", "is_training_image", "is_training_img")
_OF_OTHERS = ("is_test", "is_val", "is_valid", "is_validation", "is_heldout")
_BITS = {"1": 1, "true": 1, "yes": 1, "0": 0, "-1": 0, "false": 0, "no": 0}
# CelebA's list_eval_partition: training, validation, test.
_PARTITIONS = {"0": False, "1": True, "2": True}
_TRAIN = frozenset({"train", "training"})
_HELD_OUT = frozenset({"val", "valid", "validation", "test", "testing", "heldout", "dev", "eval"})
# What may stand beside these words, as in test_set and train_images.
_FILLERS = frozenset({"", "set", "images", "image", "img", "imgs", "data", "split"})


def split_of(name: str) -> bool | None:
    """Whether a folder or file of this name holds what is held out; none where it does not say.

    ``train2017``, ``test_set`` and ``val-00000-of-00001`` say so, ``trainers`` does not.
    """
    words = [word for word in re.split("[^a-z]+", name.lower()) if word not in _FILLERS | {"of"}]
    if len(words) != 1:
        return None
    return False if words[0] in _TRAIN else True if words[0] in _HELD_OUT else None


def mentions(name: str) -> bool | None:
    """As :func:`split_of`, of a name that has other words too, such as ``seg_train``."""
    words = set(re.split("[^a-z]+", name.lower()))
    return False if words & _TRAIN else True if words & _HELD_OUT else None


def told_apart(names: Sequence[str]) -> list[bool] | None:
    """Which of several names are of what is held out, where nothing else tells them apart.

    So do ``train`` and ``test``, and ``faces_train`` and ``faces_val``; None for all others, such
    as ``faces_train`` and ``boxes_val``.
    """
    words = [re.findall("[a-z]+|[0-9]+", name.lower()) for name in names]
    rest = {tuple(w for w in one if w not in _TRAIN | _HELD_OUT) for one in words}
    held = [mentions(name) for name in names]
    if len(rest) > 1 or len(set(names)) < len(names) or None in held:
        return None
    return [bool(one) for one in held]


def read_bit(value: object) -> int | None:
    """1 for 1, true and yes; 0 for 0, -1, false and no; none for anything else."""
    text = str(value).strip().lower()
    return _BITS.get(text.removesuffix(".0"))


def flag_column(columns: Mapping[str, str]) -> str | None:
    """The column that says of each image whether it is of the training part; none where none does.

    Arguments:
        columns: The columns there are, by their names in lower case.
    """
    return next((columns[c] for c in (*_OF_TRAINING, *_OF_OTHERS) if c in columns), None)


def read_split(where: str, values: Iterable[object]) -> np.ndarray:
    """Which images are held out, bool [N], by words or by CelebA's numbers.

    Raises:
        UserError: Where a value says neither, with its image.
    """
    heldout = []
    for i, value in enumerate(values, start=1):
        text = str(value).strip().removesuffix(".0")
        held = _PARTITIONS.get(text, split_of(text))
        if held is None:
            raise UserError(
                f"image {i} of {where} has the split {value!r}; use train or val, or 0, 1 and 2 "
                f"for training, validation and test"
            )
        heldout.append(held)
    return np.array(heldout)


def read_flags(where: str, column: str, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Which images are held out, bool [N], by a column that :func:`flag_column` found.

    Raises:
        UserError: Where a cell is neither 1 nor 0, with its image.
    """
    bits = [read_bit(row[column]) for row in rows]
    if None in bits:
        i = bits.index(None)
        raise UserError(
            f"column {column!r} of image {i + 1} of {where} is {rows[i][column]!r}, which says "
            f"neither that it is held out nor that it is not: use 1 and 0"
        )
    return np.array([bool(bit) for bit in bits]) ^ (column.strip().lower() in _OF_TRAINING)
