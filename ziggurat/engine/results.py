"""The results of a prediction, as arrays in the pixels of the given image."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from backbones.errors import UserError


@dataclass(frozen=True)
class Scores:
    """Classes of an image, the best first.

    Attributes:
        scores: (K,) float32 for all K classes, in 0..1. Their sum is 1.
        labels: (K,) int64, class indices.
        names: K class names.
    """

    scores: np.ndarray
    labels: np.ndarray
    names: list[str]


@dataclass(frozen=True)
class Instances:
    """Objects in an image, the best first.

    Attributes:
        size: (height, width) of the image in pixels.
        boxes: (N, 4) float32; x1, y1, x2, y2 in pixels, from the upper left corner.
        scores: (N,) float32, 0..1.
        labels: (N,) int64, class indices.
        names: N class names.
        masks: (N, height, width) bool, or None from a detector without masks. Of tiles they are
            ``detection.run_lengths.RunLengths``, which has the same indices and needs less memory.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    masks: Any = None

    def above(self, score: float) -> "Instances":
        """The objects whose score is at least ``score``."""
        kept = np.flatnonzero(self.scores >= score)
        return replace(
            self,
            boxes=self.boxes[kept],
            scores=self.scores[kept],
            labels=self.labels[kept],
            names=[self.names[i] for i in kept],
            masks=None if self.masks is None else self.masks[kept],
        )


class Segment(NamedTuple):
    """One segment of a panoptic map.

    Attributes:
        number: of its pixels in the map, 1 or more.
        label: class index.
        name: class name.
        is_thing: whether it is an object that can be counted, and not stuff such as sky.
        area: in pixels.
    """

    number: int
    label: int
    name: str
    is_thing: bool
    area: int


@dataclass(frozen=True)
class Panoptic(Instances):
    """The objects of an image, and its division into segments of things and stuff.

    Attributes:
        panoptic_map: (height, width) int32, the number of each pixel's segment; 0 for a pixel without one.
        segments: the segments, the largest first.
        size, boxes, scores, labels, names, masks: as for ``Instances``. Objects may overlap, segments do not. There are
            no objects if the model gives a map alone.
    """

    panoptic_map: Any = None
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class ClassMap:
    """The class of every pixel of an image.

    Attributes:
        class_map: (height, width), class indices; uint8 up to 256 classes, else uint16.
        names: the names of all classes, by index.
    """

    class_map: np.ndarray
    names: list[str]


Result = Scores | Instances | Panoptic | ClassMap


def check_same_size(result: Result, image: Image.Image) -> None:
    """Raises UserError for a result with places that is of an image of another size."""
    size = result.class_map.shape if isinstance(result, ClassMap) else getattr(result, "size", image.size[::-1])
    if tuple(size) != image.size[::-1]:
        sizes = f"{size[1]}x{size[0]} pixels, and the image {image.width}x{image.height}"
        raise UserError(f"the result is of {sizes}; allowed: the result of the same image")
