"""Annotations as COCO, iNaturalist and many a tool write them: images, annotations, categories.

An annotation names an image and a category of what it shows, with or without a box.
"""

from collections.abc import Mapping
from typing import Any

from ccdiff.errors import UserError

__all__ = ["coco_rows", "is_coco"]

_KEYS = frozenset({"images", "annotations", "categories"})


def is_coco(content: object) -> bool:
    """Whether JSON has the three lists; captions and keypoints alone have no categories."""
    return isinstance(content, Mapping) and all(isinstance(content.get(k), list) for k in _KEYS)


def coco_rows(content: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """A row for each image: its file, and the names of the categories that its annotations name.

    The column is ``label`` where each image has exactly one category, and else ``tags``, a list.

    Arguments:
        content: JSON for which :func:`is_coco` holds.
        where: Names the file in messages.

    Raises:
        UserError: Where an annotation names an image or a category that is not there.
    """
    try:
        names = {one["id"]: str(one["name"]) for one in content["categories"]}
        files = {one["id"]: str(one["file_name"]) for one in content["images"]}
        shown: dict[Any, set[str]] = {i: set() for i in files}
        for one in content["annotations"]:
            shown[one["image_id"]].add(names[one["category_id"]])
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{where} looks like annotations as of COCO, but an image, annotation or category "
            f"lacks or does not know {error}"
        ) from error
    if len(set(names.values())) < len(names):
        raise UserError(f"{where} has two categories of one name: rename one of them")
    if all(len(tags) == 1 for tags in shown.values()):
        return [{"file": files[i], "label": next(iter(tags))} for i, tags in shown.items()]
    return [{"file": files[i], "tags": sorted(tags)} for i, tags in shown.items()]
