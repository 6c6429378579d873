"""The forms in which people write masks in COCO json, turned into COCO's own where their meaning is sure."""

from itertools import chain
from typing import Any

from backbones.errors import UserError, shown
from ziggurat.engine.coco_masks import are_runs
from ziggurat.engine.coco_schema import is_number
from ziggurat.engine.own_data.content import Notes, box_around, rectangle, signed_area

NEAR = 1.0  # pixels between a box and the two corners in its segmentation


def right_form(mask: Any, box: Any, size: tuple[float, float], where: str, source: str, notes: Notes) -> Any:
    """A segmentation as a list of polygons or as run lengths.

    Other forms are turned where their meaning is sure: a flat list of numbers, points [x, y] in a list, run lengths in
    a list, empty polygons, and two corners that are those of the box. Everything else stays as it is.

    Raises:
        UserError: run lengths are not whole.
    """
    if isinstance(mask, list):
        first = mask[0]
        if isinstance(first, list) and len(first) > 5 and type(first[0]) in (int, float) and all(mask):
            return mask  # almost all
        if any(isinstance(part, dict) for part in mask):
            parts = [part for part in mask if part]
            for part in parts:
                check_runs(part, where, size)
            notes.add("run lengths taken out of a list", source)
            return parts[0] if len(parts) == 1 else merged(parts)
        if not all(mask) and all(isinstance(part, list) for part in mask):
            mask = [part for part in mask if part]
            notes.add("empty polygons left out", source)
        if mask and all(is_number(part) for part in mask):
            if len(mask) > 4:
                notes.add("flat lists of numbers taken as one polygon", source)
            mask = [mask]
        if len(mask) > 2 and all(is_point(part) for part in mask):
            mask = [list(chain(*mask))]
            notes.add("lists of points taken as polygons", source)
        elif mask and all(isinstance(part, list) and len(part) > 2 and all(map(is_point, part)) for part in mask):
            mask = [list(chain(*part)) for part in mask]
            notes.add("lists of points taken as polygons", source)
        corners = list(chain(*mask)) if all(is_point(part) for part in mask) else mask[0]
        if len(mask) in (1, 2) and isinstance(corners, list) and len(corners) == 4 and are_corners(corners, box):
            x, y, width, height = box
            mask = [rectangle(x, y, x + width, y + height)]
            notes.add("two corners of the box taken as a rectangle", source)
        return mask
    if isinstance(mask, dict):
        check_runs(mask, where, size)
        return mask
    raise UserError(f"{where}: segmentation is {shown(mask)}; allowed: polygons, or run lengths")


def is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def are_corners(corners: list, box: Any) -> bool:
    """Whether four numbers are two opposite corners of a box x, y, width, height."""
    if not box or not all(map(is_number, corners)):
        return False
    x, y, width, height = box
    x1, x2, y1, y2 = *sorted(corners[0::2]), *sorted(corners[1::2])
    return max(abs(x1 - x), abs(y1 - y), abs(x2 - x - width), abs(y2 - y - height)) <= NEAR


def check_runs(mask: Any, where: str, size: tuple[float, float]) -> None:
    """Raises UserError unless this is a dict of whole run lengths. Their size may be another than the image's."""
    own = mask.get("size") if isinstance(mask, dict) else None
    is_size = isinstance(own, list) and len(own) == 2 and all(type(side) is int and side > 0 for side in own)
    if not is_size or not are_runs(mask.get("counts"), own[0] * own[1]):
        raise UserError(
            f"{where}: segmentation has run lengths that are not those of a mask of its size {shown(own)}; allowed: "
            f"size=[{size[0]:g}, {size[1]:g}], and counts with as many pixels"
        )


def compressed(mask: dict) -> dict:
    """Run lengths as COCO's compressed code."""
    from pycocotools import mask as coco_mask

    return coco_mask.frPyObjects(mask, *mask["size"]) if isinstance(mask["counts"], list) else mask


def merged(parts: list[dict]) -> dict:
    """The run lengths of several parts as one mask."""
    from pycocotools import mask as coco_mask

    found = coco_mask.merge([compressed(part) for part in parts])
    return dict(size=list(map(int, found["size"])), counts=found["counts"].decode())


def box_of(mask: Any, where: str) -> list[float]:
    from pycocotools import mask as coco_mask

    if isinstance(mask, dict):
        return coco_mask.toBbox(compressed(mask)).tolist()
    if not all(isinstance(part, list) and len(part) > 5 and all(map(is_number, part)) for part in mask):
        raise UserError(
            f"{where}: no bbox, and segmentation is {shown(mask)}; allowed: polygons of three points or more"
        )
    return box_around(mask)


def area_of(mask: Any, box: list[float]) -> float:
    """The area of a mask in square pixels; that of the box if there is no mask, or one that no check would pass."""
    if isinstance(mask, dict):
        from pycocotools import mask as coco_mask

        return float(coco_mask.area(compressed(mask)))
    whole = mask and all(isinstance(part, list) and len(part) > 5 and all(map(is_number, part)) for part in mask)
    return sum(abs(signed_area(part)) for part in mask) if whole else max(box[2], 0) * max(box[3], 0)
