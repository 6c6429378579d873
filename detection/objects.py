"""The objects of a COCO annotation file as arrays, with what is odd about each."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detection.coco_file import read_content
from ziggurat.engine.coco_masks import is_polygon
from ziggurat.engine.findings import EXAMPLES, Place

APART = 2.0  # pixels by which a box may differ from its polygons, by rounding
POLYGONS_LOOKED_AT, MOST_POINTS = 20_000, 200  # every edge is compared with every other


class Objects(NamedTuple):
    """The objects of a file, crowds left out.

    Attributes:
        names: the images' file names.
        without: the names of images that have neither an object nor a crowd.
        ids: of the annotations, N.
        sources: where each was written, N texts; "" for a file that does not say.
        images: the index of each object's image, (N,).
        sizes: width and height of each object's image, (N, 2).
        boxes: x, y, width, height in pixels, (N, 4).
        extents: the box of each object's polygons, (N, 4); NaN for objects without.
        repeated: indices of objects whose image, category and box an earlier one has.
        crossing: indices of objects with a polygon that crosses itself.
        apart: indices of objects whose box is not that of its polygons.
        outlines: the polygons of the first objects of ``crossing`` and of ``apart``, by their indices.
        polygons: how many polygons were looked at, and how many there are.
    """

    names: tuple[str, ...]
    without: tuple[str, ...]
    ids: tuple[Any, ...]
    sources: tuple[str, ...]
    images: np.ndarray
    sizes: np.ndarray
    boxes: np.ndarray
    extents: np.ndarray
    repeated: tuple[int, ...]
    crossing: tuple[int, ...]
    apart: tuple[int, ...]
    outlines: dict[int, tuple[tuple[float, ...], ...]]
    polygons: tuple[int, int]

    def labels(self, indices: Sequence[int]) -> list[str]:
        """What the objects are called in a message: their source, else id and image."""
        named = ((self.sources[i], self.ids[i], self.names[self.images[i]]) for i in indices)
        return [source or f"{number} in {name}" for source, number, name in named]

    def places(self, indices: Sequence[int], folder: Path) -> list[Place]:
        few = list(indices)[:EXAMPLES]
        return [
            Place(folder / self.names[self.images[i]], tuple(self.boxes[i].tolist()), self.outlines.get(i, ()))
            for i in few
        ]


def boxes_in(ann_file: Path) -> dict[str, list[tuple[float, ...]]]:
    """The boxes x, y, width, height of each image of a file without problems, by the image's name. Crowds are none."""
    objects = read_content(ann_file, objects_of)
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for image, box in zip(objects.images.tolist(), objects.boxes.tolist(), strict=True):
        found[objects.names[image]].append(tuple(box))
    return found


def objects_of(data: dict[str, Any]) -> Objects:
    """The objects of a file whose entries are of the right form."""
    index = {image["id"]: i for i, image in enumerate(data["images"])}
    annotations = data.get("annotations") or []
    occupied = {a["image_id"] for a in annotations}
    annotations = [a for a in annotations if not a.get("iscrowd")]
    images = np.array([index[a["image_id"]] for a in annotations], int)
    sizes = np.array([(image["width"], image["height"]) for image in data["images"]], float)
    first: dict[tuple, int] = {}
    keys = [(a["image_id"], a["category_id"], *a["bbox"]) for a in annotations]
    repeated = tuple(i for i, key in enumerate(keys) if first.setdefault(key, i) != i)
    extents, polygons = np.full((len(annotations), 4), np.nan), []
    for i, annotation in enumerate(annotations):
        parts = polygons_of(annotation)
        if parts:
            xs, ys = [v for part in parts for v in part[::2]], [v for part in parts for v in part[1::2]]
            extents[i] = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
            polygons += [(i, part) for part in parts]
    step = -(-len(polygons) // POLYGONS_LOOKED_AT) or 1
    crossing = sorted({i for i, part in polygons[::step] if crosses_itself(np.asarray(part, float).reshape(-1, 2))})
    boxes = np.array([a["bbox"] for a in annotations], float).reshape(-1, 4)
    distances = np.abs(corners(boxes) - corners(extents)).max(axis=1)
    apart = np.flatnonzero(distances > APART).tolist()  # NaN is not
    drawn = {*crossing[:EXAMPLES], *apart[:EXAMPLES]}
    return Objects(
        names=tuple(image["file_name"] for image in data["images"]),
        without=tuple(image["file_name"] for image in data["images"] if image["id"] not in occupied),
        ids=tuple(a["id"] for a in annotations),
        sources=tuple(str(a.get("source", "")) for a in annotations),
        images=images,
        sizes=sizes[images].reshape(-1, 2),
        boxes=boxes,
        extents=extents,
        repeated=repeated,
        crossing=tuple(crossing),
        apart=tuple(apart),
        outlines={i: tuple(map(tuple, polygons_of(annotations[i]))) for i in drawn},
        polygons=(len(polygons[::step]), len(polygons)),
    )


def polygons_of(annotation: dict[str, Any]) -> list[list[float]]:
    """The polygons of an annotation that are of the right form."""
    mask = annotation.get("segmentation")
    return [part for part in mask if is_polygon(part, np.inf)] if isinstance(mask, list) else []


def corners(boxes: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 of boxes x, y, width, height, (N, 4)."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def crosses_itself(points: np.ndarray) -> bool:
    """Whether two edges of a closed polygon, points (N, 2), cross inside both. Edges that touch do not count."""
    if len(points) > MOST_POINTS:
        return False
    start, end = points, np.roll(points, -1, axis=0)

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return np.sign(
            (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
        )

    a, b, c, d = start[:, None], end[:, None], start[None], end[None]
    return bool(((side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)).any())
