"""What is odd in the objects of a COCO annotation file: boxes, polygons, repeated and tiny objects."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import UserError
from backbones.images import upright_size
from detection.coco_file import read_content
from detection.objects import APART, Objects, objects_of
from ziggurat.engine.finding_pictures import photos
from ziggurat.engine.findings import EXAMPLES, NOTE, WARNING, Finding, Place, found_in
from ziggurat.engine.images import kind_of
from ziggurat.engine.shown import Photo

BEYOND = 1.0  # pixels by which a box may leave its image, by rounding
TINY, MANY_TINY = 8.0, 0.25  # pixels of the training image; the share of objects from which the size is in question


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
