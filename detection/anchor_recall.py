"""The recall of anchors: the share of boxes that have an anchor, at its place on the maps, with an IoU or more.

The IoU is that from which the assigner takes the anchor for an object.
"""

import contextlib
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from backbones.errors import UnreadableImage, UserError
from ziggurat.engine.seeding import seed_all

IMAGES, BOXES = 500, 3000  # at most, that are looked at


class Truth(NamedTuple):
    """Boxes as the network sees them: after the training pipeline.

    Attributes:
        boxes: (N, 4), x1, y1, x2, y2 in pixels.
        sizes: (N, 2), width and height of each box's image, padded.
    """

    boxes: np.ndarray
    sizes: np.ndarray


class Levels(NamedTuple):
    """The anchors of a generator, and their places on the maps of L levels.

    Attributes:
        strides: (L, 2), x and y in pixels.
        centres: (L, 2), x and y of the first place.
        sides: for each level (A, 2), width and height of the anchors of a place.
    """

    strides: np.ndarray
    centres: np.ndarray
    sides: list[np.ndarray]


def levels_of(made: Any) -> Levels:
    """The levels of the anchors that mmdet's generator makes.

    Raises:
        UserError: there are no anchors on a level, or anchors without an area, or more or fewer levels than strides.
    """
    corners = [anchors.numpy().astype(float) for anchors in made.base_anchors]
    sides = [one[:, 2:] - one[:, :2] for one in corners]
    if len(sides) != len(made.strides) or not all(len(one) and (one > 0).all() for one in sides):
        raise UserError(
            f"fit_anchors: {type(made).__name__} has {len(made.strides)} strides, and its sizes are "
            f"{[[f'{width:g}x{height:g}' for width, height in one] for one in sides]}; allowed: sizes above 0 for "
            "each stride"
        )
    centres = np.stack([(one[0, :2] + one[0, 2:]) / 2 for one in corners])
    return Levels(np.array(made.strides, float), centres, sides)


def overlaps(levels: Levels, truth: Truth) -> np.ndarray:
    """(N,): the largest IoU of each box with any anchor. On a map, that of the nearest place is the largest."""
    sides = sides_of(truth)
    middles = (truth.boxes[:, 2:] + truth.boxes[:, :2]) / 2
    best = np.zeros(len(sides))
    for stride, centre, anchors in zip(*levels, strict=True):
        cells = np.ceil(truth.sizes / stride) - 1
        places = np.clip(np.round((middles - centre) / stride), 0, cells) * stride + centre
        apart = np.abs(places - middles)[:, None]
        shared = np.minimum((anchors + sides[:, None]) / 2 - apart, np.minimum(anchors, sides[:, None])).clip(min=0)
        common = shared.prod(axis=2)
        found = common / (anchors.prod(axis=1) + sides.prod(axis=1)[:, None] - common)
        best = np.maximum(best, found.max(axis=1))
    return best


def recall(levels: Levels, truth: Truth, threshold: float) -> float:
    return float((overlaps(levels, truth) >= threshold).mean())


def sides_of(truth: Truth) -> np.ndarray:
    """(N, 2): width and height of the boxes."""
    return truth.boxes[:, 2:] - truth.boxes[:, :2]


def boxes_of(dataset: Any, divisor: int) -> Truth:
    """The boxes of some training images, all if there are few, after the pipeline. No random numbers are used up."""
    boxes, sizes = [], []
    with own_random_numbers():
        count = min(len(dataset), IMAGES)
        for index in range(count):
            try:
                item = dataset[index * len(dataset) // count]
            except UnreadableImage:
                continue  # the training leaves the image out
            found = item["data_samples"].gt_instances.bboxes
            found = getattr(found, "tensor", found).numpy().reshape(-1, 4)
            height, width = (-(-side // divisor) * divisor for side in item["inputs"].shape[-2:])
            boxes.append(found.astype(float))
            sizes.append(np.tile([[width, height]], (len(found), 1)).astype(float))
    truth = Truth(np.concatenate(boxes), np.concatenate(sizes)) if boxes else Truth(np.zeros((0, 4)), np.zeros((0, 2)))
    kept = np.flatnonzero((truth.boxes[:, 2:] > truth.boxes[:, :2]).all(axis=1))
    if not len(kept):
        raise UserError("fit_anchors: the training images have no boxes to fit anchors to")
    kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), BOXES)).astype(int)]
    return Truth(truth.boxes[kept], truth.sizes[kept])


@contextlib.contextmanager
def own_random_numbers() -> Iterator[None]:
    """Seeds all random numbers inside the block, and sets them back after it."""
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            seed_all(0)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
