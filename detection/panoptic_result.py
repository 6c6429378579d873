"""The panoptic prediction of an image: its segments, as mmdet's models give them, and as JSON and files have them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.structures import INSTANCE_OFFSET
from PIL import Image

from ziggurat.engine.draw import draw_segments
from ziggurat.engine.results import Panoptic, Segment


def segments_of(ids: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """The map of a prediction with segments numbered from 1, the largest first, and the segments.

    Args:
        ids: (H, W) int, mmdet's ``sem_seg``: the class index, and for things 1000 times the number of the object.
        names: the class names. A class index without a name stands for pixels of no segment.
    """
    found, places, areas = np.unique(ids, return_inverse=True, return_counts=True)
    numbers, segments = np.zeros(len(found), np.int32), []
    for i in np.argsort(-areas, kind="stable").tolist():
        label, is_thing = int(found[i] % INSTANCE_OFFSET), bool(found[i] >= INSTANCE_OFFSET)
        if label < len(names):
            numbers[i] = len(segments) + 1
            segments.append(Segment(len(segments) + 1, label, str(names[label]), is_thing, int(areas[i])))
    return numbers[places].reshape(ids.shape), tuple(segments)


def describe_segments(result: Panoptic) -> list[dict[str, Any]]:
    """The segments in JSON's types, by the names of COCO's panoptic format."""
    return [
        dict(id=one.number, label=one.label, category=one.name, isthing=int(one.is_thing), area=one.area)
        for one in result.segments
    ]


def draw_panoptic(image: Image.Image, result: Panoptic, palette: Sequence[Any]) -> Image.Image:
    """The segments drawn on their image, in the colours of their classes."""
    classes = [(one.number, one.name, tuple(palette[one.label])) for one in result.segments]
    return draw_segments(image, result.panoptic_map, classes)
