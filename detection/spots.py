"""Where annotations are to be seen: in which image, with which box and outlines."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ziggurat.engine.coco_schema import is_number
from ziggurat.engine.findings import EXAMPLES, Place


class Spot(NamedTuple):
    """An annotation on its image.

    Attributes:
        image: the file name, below the image folder.
        box: [x, y, width, height] in pixels, as it is written; None if these are not four numbers.
        outlines: polygons x, y, x, y, ... of two or more points, as they are written.
    """

    image: str
    box: tuple[float, ...] | None = None
    outlines: tuple[tuple[float, ...], ...] = ()


def spots_of(annotations: Iterable[dict[str, Any]], images: Sequence[dict[str, Any]]) -> tuple[Spot, ...]:
    """The first few of the annotations whose image is in the list of images."""
    annotations = list(annotations)
    if not annotations:
        return ()
    names = {image["id"]: image["file_name"] for image in images}
    there = (one for one in annotations if one["image_id"] in names)
    return tuple(
        Spot(names[one["image_id"]], box_of(one.get("bbox")), outlines_of(one.get("segmentation")))
        for one in islice(there, EXAMPLES)
    )


def places_of(spots: Iterable[Spot], folder: Path) -> list[Place]:
    """The spots in the images of a folder."""
    return [Place(folder / one.image, one.box, one.outlines) for one in spots]


def box_of(value: Any) -> tuple[float, ...] | None:
    return tuple(value) if isinstance(value, list) and len(value) == 4 and all(map(is_number, value)) else None


def outlines_of(mask: Any) -> tuple[tuple[float, ...], ...]:
    """The polygons of a segmentation that can be drawn; none of run lengths."""
    parts = mask if isinstance(mask, list) else []
    return tuple(tuple(part[: len(part) // 2 * 2]) for part in parts if is_line(part))


def is_line(part: Any) -> bool:
    return isinstance(part, list) and len(part) > 3 and all(map(is_number, part))
