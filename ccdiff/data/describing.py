"""What a data set holds, in lines for a log."""

from collections.abc import Sequence

from torch import Tensor

from ccdiff.data.core import Split, in_plane

__all__ = ["describe"]

_MAX_DESCRIBED = 9


def describe(train: Split, heldout: Split, names: Sequence[str]) -> list[str]:
    """What a set holds, for a log: images, and how many of each class or attribute.

    Arguments:
        train: Images to train on.
        heldout: Images that are not.
        names: One per class or attribute.

    Returns:
        A dozen lines at most; names with no training or no held-out image are among them.
    """
    numbers = train.labels.is_floating_point()
    kind = "numbers" if numbers else "classes" if train.labels.ndim == 1 else "attributes"
    what = "points" if in_plane(train.images.shape[1:]) else "images"
    lines = [f"{len(train)} training {what}, {len(heldout)} held out; {len(names)} {kind}"]
    if numbers:
        return lines + _numbers(train.labels, names)
    counts = [split.count_labels(len(names)).tolist() for split in (train, heldout)]
    rows = list(zip(names, *counts, strict=True))
    if len(rows) > _MAX_DESCRIBED:
        lines[0] += ", the rarest and the most frequent of which are"
        by_size = sorted(rows, key=lambda row: row[1])
        half = _MAX_DESCRIBED // 2
        shown = by_size[:half] + by_size[-half:]
    else:
        shown = rows
    lines += [f"  {name}: {n} training {what}, {held} held out" for name, n, held in shown]
    for what, column in (("training", 1), ("held-out", 2)):
        if none := [row[0] for row in rows if not row[column]]:
            more = ", ..." if len(none) > _MAX_DESCRIBED else ""
            lines.append(f"  no {what} image of {', '.join(none[:_MAX_DESCRIBED])}{more}")
    return lines


def _numbers(labels: Tensor, names: Sequence[str]) -> list[str]:
    """What the numbers of training images are, a line each."""
    lines = []
    for name, column in zip(names[:_MAX_DESCRIBED], labels.double().cpu().T, strict=False):
        there = column[~column.isnan()]
        missing = len(column) - len(there)
        lacking = f"; {missing} training images have none" if missing else ""
        if len(there):
            mean, std = there.mean(), there.std(correction=0)
            span = f"from {there.min():g} to {there.max():g}, mean {mean:.4g}, std {std:.4g}"
            lines.append(f"  {name}: {span}{lacking}")
        else:
            lines.append(f"  {name}: no training image has it")
    return lines + (["  ..."] if len(names) > _MAX_DESCRIBED else [])
