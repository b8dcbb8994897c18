"""Which images are held out, where a set does not say: drawn by name, so that it never changes."""

import hashlib
from collections.abc import Sequence

import numpy as np

__all__ = ["draw_heldout", "groups_of"]


def draw_heldout(names: Sequence[str], labels: np.ndarray, fraction: float) -> np.ndarray:
    """Holds out about a ``fraction`` of the images, of every class and value of an attribute.

    An image is held out where the hash of its name, read as a number in [0, 1), lies below the
    fraction: images that are added later, and labels that are changed, move none of the others.
    Only where that leaves a class, or images with or without an attribute, without a training
    image, or without a held-out one though half an image or more was due, does the one of theirs
    that is nearest to the fraction change sides. So each class trains on one image at least.

    Arguments:
        names: One per image, unique.
        labels: int64 [N] class indices, uint8 [N, K] attribute bits or float32 [N, K] numbers.
        fraction: In (0, 1).

    Returns:
        bool [N].
    """
    place = np.array([_number(name) for name in names])
    held = place < fraction
    groups = groups_of(labels)
    # The rarest first: what is done for them may serve the others.
    for group in sorted(groups, key=len):
        if len(group) and held[group].all():
            held[group[np.argmax(place[group])]] = False
    trained = [int((~held[group]).sum()) for group in groups]
    member_of: dict[int, list[int]] = {}
    wanting = [
        i
        for i, group in enumerate(groups)
        if len(group) > 1 and len(group) * fraction >= 0.5 and not held[group].any()
    ]
    if wanting:
        for i, group in enumerate(groups):
            for member in group.tolist():
                member_of.setdefault(member, []).append(i)
    for i in sorted(wanting, key=lambda i: len(groups[i])):
        if held[groups[i]].any():
            continue
        candidates = groups[i][np.argsort(place[groups[i]], kind="stable")].tolist()
        free = (m for m in candidates if all(trained[g] > 1 for g in member_of[m]))
        if (chosen := next(free, None)) is not None:
            held[chosen] = True
            for g in member_of[chosen]:
                trained[g] -= 1
    if not held.any() and len(held) > 1:
        # As a last resort one of the largest group, which misses it least.
        largest = max(groups, key=len)
        if len(largest) > 1:
            held[largest[np.argmin(place[largest])]] = True
    return held


def groups_of(labels: np.ndarray) -> list[np.ndarray]:
    """The images of each class, or without and with each attribute, as int64 indices.

    Where labels are numbers, all images are one group.

    Arguments:
        labels: int64 [N], uint8 [N, K] or float32 [N, K].
    """
    if np.issubdtype(labels.dtype, np.floating):
        return [np.arange(len(labels))]
    if labels.ndim == 1:
        order = np.argsort(labels, kind="stable")
        return np.split(order, np.cumsum(np.bincount(labels))[:-1])
    return [np.flatnonzero(column == bit) for column in labels.T for bit in (0, 1)]


def _number(name: str) -> float:
    """A number in [0, 1) that looks random and belongs to the name."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
