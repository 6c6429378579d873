"""What is in a detector's data set: images with their objects or segments, and statistics of all annotations."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from backbones.errors import UserError
from backbones.images import read_image, upright_size
from detection.extremes import draw_scaled, masks_of
from detection.panoptic_extremes import truth_of
from engine.draw import draw_segments, make_palette, reduced
from engine.originals import innermost, looked_at, original
from engine.reading import reading_in
from engine.task_views import Annotated, DataStatistics


def annotated(dataset: Any, index: int) -> Annotated | None:
    """As :meth:`engine.task_views.TaskViews.annotated`. Of a panoptic data set the segments are drawn."""
    inner, place = original(dataset, index)
    if not hasattr(inner, "get_data_info"):
        return None
    info, classes = inner.get_data_info(place), names_of(inner)
    palette = inner.metainfo.get("palette") or make_palette(len(classes))
    image = read_image(info["img_path"], reading=reading_in(inner))
    size, image = image.size, reduced(image)
    if info.get("segments_info") and info.get("seg_map_path"):
        numbers, segments = truth_of(info, classes, len(inner.metainfo["thing_classes"]))
        scaled = np.asarray(Image.fromarray(numbers).resize(image.size, Image.Resampling.NEAREST))
        drawn = draw_segments(image, scaled, [(one.number, one.name, tuple(palette[one.label])) for one in segments])
        return Annotated(drawn, info["img_path"], *described([one.name for one in segments], 0, "segment"))
    truth = info.get("instances") or []
    objects = [one for one in truth if not one["ignore_flag"]]
    labels = [one["bbox_label"] for one in objects]
    boxes = np.reshape([one["bbox"] for one in objects], (-1, 4))
    named, colours = [classes[i] for i in labels], [tuple(palette[i]) for i in labels]
    drawn = draw_scaled(image, size, boxes, named, colours, masks_of(objects, *size[::-1]), None)
    return Annotated(drawn, info["img_path"], *described(named, len(truth) - len(objects), "object"))


def names_of(dataset: Any) -> list[str]:
    return [str(name) for name in dataset.metainfo["classes"]]


def described(names: Sequence[str], crowds: int, what: str) -> tuple[list[str], list[str]]:
    """The caption and the classes of an image with objects of these names."""
    found = Counter(names)
    listed = ", ".join(f"{count} x {name}" if count > 1 else name for name, count in found.most_common())
    lines = [f"{len(names)} {what}{'s' * (len(names) != 1)}: {listed}" if names else f"no {what}s"]
    return lines + ([f"{crowds} regions that do not count (crowds)"] if crowds else []), list(found)


def statistics(dataset: Any, sample: int | None) -> DataStatistics:
    """As :meth:`engine.task_views.TaskViews.statistics`. Crowds do not count.

    The annotations tell everything but the sizes of images in some formats, for which files are opened.
    """
    parts = [part for part in innermost(dataset) if hasattr(part, "get_data_info")]
    classes = list(dict.fromkeys(name for part in parts for name in names_of(part)))
    number = {name: i for i, name in enumerate(classes)}
    counts, class_images = np.zeros(len(classes), np.int64), np.zeros(len(classes), np.int64)
    sizes, per_image, sides, crowds, is_panoptic = [], [], [], 0, False
    for part in parts:
        own = np.array([number[name] for name in names_of(part)])  # two data sets may order their classes otherwise
        for index in range(len(part)):
            info = part.get_data_info(index)
            size = (info.get("width"), info.get("height"))
            if all(size):
                sizes.append(size)
            objects = info.get("instances") or []
            segments = info.get("segments_info")
            is_panoptic = is_panoptic or segments is not None
            labels = [one["bbox_label"] for one in objects if not one["ignore_flag"]]
            if segments is not None:
                things = len(part.metainfo["thing_classes"])
                labels = [one["category"] for one in segments if one["is_thing"] or one["category"] >= things]
            crowds += len(objects if segments is None else segments) - len(labels)
            per_image.append(len(labels))
            if labels:
                found = np.bincount(own[labels], minlength=len(classes))
                counts, class_images = counts + found, class_images + (found > 0)
            if all(size):
                sides += sides_of(objects, *size)
    unreadable: list[str] = []
    if not sizes:
        paths = (str(part.get_data_info(index)["img_path"]) for part, index in looked_at(dataset, sample) if parts)
        sizes, unreadable = sizes_of(paths, reading_in(parts[0]) if parts else None)
    unit = "segments" if is_panoptic else "objects"
    return DataStatistics(
        images=len(per_image),
        classes=classes,
        unit=unit,
        counts=counts,
        class_images=class_images,
        counted=len(per_image),
        sizes=np.reshape(np.asarray(sizes, int), (-1, 2)),
        figures={f"images without {unit}": per_image.count(0), "crowds": crowds},
        distributions={
            f"{unit} in an image": (np.asarray(per_image, int), "images"),
            "side of boxes (root of the area), in % of the image": (np.asarray(sides, float), "boxes"),
        },
        unreadable=unreadable,
    )


def sides_of(objects: Iterable[dict[str, Any]], width: int, height: int) -> list[float]:
    """For each object that counts, the root of the share of the image's area that its box has, in percent."""
    areas = []
    for one in objects:
        left, top, right, low = one["bbox"]
        if not one["ignore_flag"]:
            areas.append(max(0, right - left) * max(0, low - top))
    return [100 * (area / (width * height)) ** 0.5 for area in areas]


def sizes_of(paths: Iterable[str], reading: Any) -> tuple[list[tuple[int, int]], list[str]]:
    """The sizes of image files, and the errors of those that cannot be read."""
    sizes, unreadable = [], []
    for path in paths:
        try:
            sizes.append(upright_size(path, reading))
        except UserError as error:
            unreadable.append(str(error))
    return sizes, unreadable
