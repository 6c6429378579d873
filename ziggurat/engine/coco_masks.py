"""Whether the masks of an annotation file are right: polygons, and run lengths in both of COCO's forms.

pycocotools trusts what it is given. It reads beyond the end of run lengths that break off, and follows a polygon's edge
point by point, for minutes if its end is far away.
"""

from typing import Any

import numpy as np

from backbones.errors import UserError

FAR = 10  # a polygon may leave its image by this many times the image's longer side


def mask_tools() -> Any:
    """The module ``pycocotools.mask``; UserError where it is not installed."""
    try:
        from pycocotools import mask
    except ModuleNotFoundError:
        raise UserError("masks of COCO need the package pycocotools; pip install pycocotools") from None
    return mask


def is_mask(mask: Any, width: float, height: float) -> bool:
    """Whether this is a mask of an image: a list of polygons, or a dict of run lengths of the image's size."""
    if isinstance(mask, dict):
        size = mask.get("size")
        right = isinstance(size, list) and [*map(type, size)] == [int, int] and size == [height, width]
        return right and are_runs(mask.get("counts"), size[0] * size[1])
    return isinstance(mask, list) and all(is_polygon(points, FAR * max(width, height)) for points in mask)


def is_polygon(points: Any, far: float) -> bool:
    """Whether this is a list x, y, x, y, ... of three or more points, none of which is farther away than ``far``.

    Only built-in functions walk the list, since files have millions of points.
    """
    if not isinstance(points, list) or len(points) <= 5 or len(points) % 2 or set(map(type, points)) - {int, float}:
        return False
    # The sum is not a number if one of them is not; least and largest do not show this.
    return -far <= min(points) and max(points) <= far and sum(points) == sum(points)


def are_runs(counts: Any, pixels: int) -> bool:
    """Whether these are run lengths, as a list or compressed, of so many pixels."""
    if isinstance(counts, list):
        return bool(counts) and set(map(type, counts)) == {int} and min(counts) >= 0 and sum(counts) == pixels
    runs = unpacked(counts) if isinstance(counts, str) and counts.isascii() and counts else None
    return runs is not None and runs.min() >= 0 and int(runs.sum()) == pixels


def unpacked(counts: str) -> np.ndarray | None:
    """Compressed run lengths as integers; None for a text that is no such code.

    A number has five bits in each character, the lowest first. The sixth bit says that another character follows, and
    the fifth bit of the last one is the sign. From the fourth run on, a number is the difference to the run two before.
    """
    code = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((code & 32) == 0)
    if code.min() < 0 or code.max() > 63 or not ends.size or ends[-1] != code.size - 1:
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:  # 35 bits, more than pycocotools has
        return None
    shift = 5 * (np.arange(code.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((code & 31) << shift, starts)
    runs -= np.where(code[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
