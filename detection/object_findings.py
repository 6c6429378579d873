"""What is odd in the objects of a COCO annotation file: boxes, polygons, repeated and tiny objects."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backbones.errors import UserError
from backbones.images import upright_size
from detection.coco_file import read_content
from engine.coco_masks import is_polygon
from engine.finding_pictures import photos
from engine.findings import EXAMPLES, NOTE, WARNING, Finding, Place, found_in
from engine.images import kind_of
from engine.shown import Photo

BEYOND = 1.0  # pixels by which a box may leave its image, by rounding
APART = 2.0  # pixels by which a box may differ from its polygons, by rounding
TINY, MANY_TINY = 8.0, 0.25  # pixels of the training image; the share of objects from which the size is in question
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


def object_findings(dataset: Any, split: str, ann_file: Path, folder: Path) -> Iterator[Finding]:
    """The findings of one file without problems.

    Args:
        dataset: the data set's config.
        split: ``"train"``, ``"val"`` or ``"test"``.
        ann_file: the annotation file.
        folder: the folder of its images.
    """
    objects = read_content(ann_file, objects_of)
    x, y, width, height = objects.boxes.T
    image_width, image_height = objects.sizes.T
    empty = (width < 1) | (height < 1)
    outside = (x >= image_width) | (y >= image_height) | (x + width <= 0) | (y + height <= 0)
    larger = (width > image_width + BEYOND) | (height > image_height + BEYOND)
    beyond = (x < -BEYOND) | (y < -BEYOND) | (x + width > image_width + BEYOND) | (y + height > image_height + BEYOND)
    share = f"of {len(objects.ids):,} objects"

    def odd(id: str, which: Any, text: str, cure: str, views: Callable = lambda places: ()) -> Iterator[Finding]:
        indices = np.flatnonzero(which) if isinstance(which, np.ndarray) else which
        labels, places = objects.labels(indices[:EXAMPLES]), objects.places(indices, folder)
        text = f"{ann_file}: {{count}} {share} {text}"
        yield from found_in(id, WARNING, text, labels, cure, places, len(indices), views=views(places))

    yield from odd("box-empty", empty, "have a side below one pixel", "remove them")
    yield from odd(
        "box-outside", outside & ~empty, "lie outside their image", "see whether boxes and images belong together"
    )
    corners_fit = (width > x) & (height > y) & (width <= image_width + BEYOND) & (height <= image_height + BEYOND)
    if corners_fit.all() and (beyond & ~outside).any():
        what = "leave their image, and all boxes would fit if they were [x1, y1, x2, y2]"
        yield from odd("box-corners", beyond & ~outside, what, "write bbox as [x, y, width, height]", as_corners)
        larger = beyond = np.zeros_like(beyond)
    yield from odd(
        "box-larger",
        larger & ~outside & ~empty,
        "are larger than their image",
        "boxes are [x, y, width, height] in pixels, neither [x1, y1, x2, y2] nor of a resized image",
    )
    yield from odd(
        "box-beyond",
        beyond & ~larger & ~outside & ~empty,
        "leave their image by more than a pixel",
        "cut them at its edges",
    )
    yield from odd(
        "box-beside-mask",
        objects.apart,
        f"have a box that is more than {APART:g} pixels away from that of its polygons",
        "see which of the two is right",
    )
    yield from odd("object-repeated", objects.repeated, "have image, category and box of another", "remove them")
    looked, polygons = objects.polygons
    part = "" if looked == polygons else f", among {looked:,} of {polygons:,} polygons"
    yield from odd(
        "polygon-crossing",
        objects.crossing,
        f"have a polygon that crosses itself{part}",
        "see whether its points are in order",
    )
    yield from without_objects(dataset, split, ann_file, objects, folder)
    yield from tiny_objects(dataset, split, ann_file, objects, folder)


def as_corners(places: Sequence[Place]) -> list[tuple[Photo, Photo]]:
    """The images with their boxes as they are written, beside the same numbers taken as corners."""
    pictures = []
    for photo in photos(places):
        boxes = [(x, y, right - x, bottom - y) for x, y, right, bottom in photo.boxes]
        written = Photo(photo.path, photo.boxes, words="as [x, y, width, height]")
        pictures.append((written, Photo(photo.path, boxes, words="as [x1, y1, x2, y2]")))
    return pictures


def as_trained(places: Sequence[Place], scale: tuple[int, int]) -> list[tuple[Photo]]:
    """The images with their boxes, at the size that the pipeline gives them."""
    pictures = []
    for photo in photos(places):
        try:
            width, height = upright_size(photo.path)
        except UserError:
            continue
        factor = min(max(scale) / max(width, height), min(scale) / min(width, height))
        boxes = [tuple(round(value * factor, 1) for value in box) for box in photo.boxes]
        frame = (round(width * factor), round(height * factor))
        pictures.append((Photo(photo.path, boxes, words="as trained", frame=frame),))
    return pictures


def boxes_in(ann_file: Path) -> dict[str, list[tuple[float, ...]]]:
    """The boxes x, y, width, height of each image of a file without problems, by the image's name. Crowds are none."""
    objects = read_content(ann_file, objects_of)
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for image, box in zip(objects.images.tolist(), objects.boxes.tolist(), strict=True):
        found[objects.names[image]].append(tuple(box))
    return found


def without_objects(dataset: Any, split: str, ann_file: Path, objects: Objects, folder: Path) -> Iterator[Finding]:
    dropped = split == "train" and (dataset.get("filter_cfg") or {}).get("filter_empty_gt", False)
    becomes = "the training leaves them out" if dropped else "they are kept as background"
    cure = "background=keep trains on them" if dropped else "background=drop leaves them out of the training"
    yield from found_in(
        "image-empty",
        NOTE,
        f"{ann_file}: {{count}} of {len(objects.names):,} images have no objects, and {becomes}",
        objects.without,
        cure if split == "train" else "",
        [Place(folder / name) for name in objects.without[:EXAMPLES]],
    )


def tiny_objects(dataset: Any, split: str, ann_file: Path, objects: Objects, folder: Path) -> Iterator[Finding]:
    """Objects of a few pixels in the images that the network sees, if the pipeline says how large these are."""
    scale = scale_of(dataset.get("pipeline") or [])
    if scale is None or not len(objects.ids):
        return
    longer, shorter = max(scale), min(scale)
    factors = np.minimum(longer / objects.sizes.max(axis=1), shorter / objects.sizes.min(axis=1))
    sides = np.sqrt(objects.boxes[:, 2] * objects.boxes[:, 3]) * factors
    tiny = np.flatnonzero(sides < TINY)
    if len(tiny) >= MANY_TINY * len(sides):
        share = f"{len(tiny) / len(sides):.0%} of {len(sides):,} objects"
        text = f"{ann_file}: {share} are below {TINY:g}x{TINY:g} pixels in images resized to {longer}x{shorter}"
        cure = "train on larger images (scale of Resize) or on crops; predict with --tile"
        labels, places = objects.labels(tiny[:EXAMPLES]), objects.places(tiny, folder)
        views = as_trained(places, scale)
        yield from found_in("object-tiny", WARNING, text, labels, cure, places, len(tiny), views=views)


def scale_of(pipeline: Sequence[Any]) -> tuple[int, int] | None:
    """Width and height that a pipeline resizes images into, keeping their aspect; the middle one of several."""
    for step in pipeline:
        scales = step.get("scales") if kind_of(step) == "RandomChoiceResize" else None
        if kind_of(step) in ("Resize", "RandomResize") and step.get("scale"):
            scales = step["scale"] if isinstance(step["scale"], list) else [step["scale"]]
        if scales and all(isinstance(scale, list | tuple) and len(scale) == 2 for scale in scales):
            return tuple(sorted(map(tuple, scales), key=min)[len(scales) // 2])
    return None


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
