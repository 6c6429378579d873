"""What is in a detector's data set: images with their objects or segments, and statistics of all annotations."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from backbones.errors import UserError
from backbones.images import read_image, upright_size
from detection.coco import CocoFormat
from detection.coco_file import read_annotations
from detection.extremes import draw_scaled, masks_of
from detection.panoptic_extremes import truth_of
from ziggurat.engine.draw import draw_segments, make_palette, reduced
from ziggurat.engine.formats import FORMATS
from ziggurat.engine.originals import innermost, looked_at, original
from ziggurat.engine.reading import reading_in
from ziggurat.engine.task_views import Annotated, DataStatistics


def annotated(dataset: Any, index: int) -> Annotated | None:
    """As :meth:`ziggurat.engine.task_views.TaskViews.annotated`. Of a panoptic data set the segments are drawn."""
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
    """As :meth:`ziggurat.engine.task_views.TaskViews.statistics`. Crowds do not count.

    The annotations tell everything but the sizes of images in some formats, for which files are opened.
    """
    parts = [part for part in innermost(dataset) if hasattr(part, "get_data_info")]
    classes = list(dict.fromkeys(name for part in parts for name in names_of(part)))
    rows = [row for part in parts for row in rows_of(part, classes)]
    counts, class_images = np.zeros(len(classes), np.int64), np.zeros(len(classes), np.int64)
    for row in rows:
        np.add.at(counts, row.labels, 1)
        class_images[list(set(row.labels))] += 1
    sizes, unreadable = [row.size for row in rows if row.size], []
    if not sizes and rows:
        paths = (str(part.get_data_info(index)["img_path"]) for part, index in looked_at(dataset, sample))
        sizes, unreadable = sizes_of(paths, reading_in(parts[0]))
    per_image = np.array([len(row.labels) for row in rows], np.int64)
    sides = np.array([side for row in rows for side in row.sides], float)
    unit = "segments" if any("thing_classes" in part.metainfo for part in parts) else "objects"
    return DataStatistics(
        images=len(rows),
        classes=classes,
        unit=unit,
        counts=counts,
        class_images=class_images,
        counted=len(rows),
        sizes=np.reshape(np.asarray(sizes, int), (-1, 2)),
        figures={
            f"images without {unit}": int((per_image == 0).sum()),
            "crowds": sum(row.crowds for row in rows),
            "images left out by the config": sum(map(left_out, parts)),
        },
        distributions={
            f"{unit} in an image": (per_image, "images"),
            "side of boxes (root of the area), in % of the image": (sides, "boxes"),
        },
        unreadable=unreadable,
    )


class Row(NamedTuple):
    """What the annotations tell of an image.

    Attributes:
        labels: the class of each object, or of each segment of a panoptic image.
        sides: of each box, the root of its share of the image's area, in percent.
        crowds: the number of annotations that do not count.
        size: width and height in pixels; None for annotations that do not tell.
    """

    labels: list[int]
    sides: list[float]
    crowds: int
    size: tuple[int, int] | None


def rows_of(dataset: Any, classes: Sequence[str]) -> Iterator[Row]:
    """The row of each image of a data set of mmdet's. Labels are indices of ``classes``."""
    number = {name: i for i, name in enumerate(classes)}
    own = [number[name] for name in names_of(dataset)]
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        size = (info["width"], info["height"]) if info.get("width") and info.get("height") else None
        given = info.get("segments_info")
        objects = [one for one in info.get("instances") or [] if not one["ignore_flag"]]
        if given is None:
            given, labels = info.get("instances") or [], [one["bbox_label"] for one in objects]
        else:
            things = len(dataset.metainfo["thing_classes"])  # mmdet says of a crowd that it is no thing
            labels = [one["category"] for one in given if one["is_thing"] or one["category"] >= things]
        sides = [side_of(one["bbox"], *size) for one in objects] if size else []
        yield Row([own[label] for label in labels], sides, len(given) - len(labels), size)


def side_of(box: Sequence[float], width: int, height: int) -> float:
    """The root of the share of an image's area that a box has, in percent. ``box``: x1, y1, x2, y2 in pixels."""
    left, top, right, low = box
    return 100 * (max(0, right - left) * max(0, low - top) / (width * height)) ** 0.5


def left_out(dataset: Any) -> int:
    """How many images of its annotation file a data set leaves out, such as images without objects in a training."""
    known = next((FORMATS[base] for base in type(dataset).__mro__ if base in FORMATS), None)
    if not isinstance(known, CocoFormat):
        return 0
    return len(read_annotations(Path(dataset.ann_file)).file_names) - len(dataset)


def sizes_of(paths: Iterable[str], reading: Any) -> tuple[list[tuple[int, int]], list[str]]:
    """The sizes of image files, and the errors of those that cannot be read."""
    sizes, unreadable = [], []
    for path in paths:
        try:
            sizes.append(upright_size(path, reading))
        except UserError as error:
            unreadable.append(str(error))
    return sizes, unreadable
