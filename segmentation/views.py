"""What is in a segmenter's data set: images with their masks, and statistics of masks."""

from typing import Any

import numpy as np
from PIL import Image

from backbones.errors import UserError
from backbones.images import read_image
from ziggurat.engine.draw import draw_classes, make_palette, percent, reduced
from ziggurat.engine.originals import innermost, looked_at, original
from ziggurat.engine.reading import reading_in
from ziggurat.engine.task_views import Annotated, DataStatistics

LISTED = 8  # classes that a caption names, the largest first


def annotated(dataset: Any, index: int) -> Annotated | None:
    """As :meth:`ziggurat.engine.task_views.TaskViews.annotated`."""
    inner, place = original(dataset, index)
    labels = labels_of(inner, place)
    if labels is None:
        return None
    path, classes = inner.get_data_info(place)["img_path"], names_of(inner)
    image = reduced(read_image(path, reading=reading_in(inner)))
    scaled = np.asarray(Image.fromarray(labels).resize(image.size, Image.Resampling.NEAREST))
    drawn = draw_classes(image, scaled, classes, inner.metainfo.get("palette") or make_palette(len(classes)))
    counts = counts_of(labels, len(classes))
    order = [i for i in np.argsort(-counts, kind="stable").tolist() if counts[i]]
    parts = [f"{classes[i]} {percent(counts[i] / labels.size)}" for i in order[:LISTED]]
    parts += [f"{len(order) - LISTED} more classes"] if len(order) > LISTED else []
    unlabelled = 1 - counts.sum() / labels.size
    lines = [", ".join(parts) or "no labels"] + ([f"unlabelled {percent(unlabelled)}"] if unlabelled else [])
    return Annotated(drawn, path, lines, [classes[i] for i in order])


def statistics(dataset: Any, sample: int | None) -> DataStatistics:
    """As :meth:`ziggurat.engine.task_views.TaskViews.statistics`: of the masks of ``sample`` images."""
    parts = [part for part in innermost(dataset) if hasattr(part, "get_data_info")]
    classes = names_of(parts[0]) if parts else []
    counts, class_images = np.zeros(len(classes), np.int64), np.zeros(len(classes), np.int64)
    sizes, unlabelled, per_image, unreadable = [], [], [], []
    for part, index in looked_at(dataset, sample) if parts else ():
        try:
            labels = labels_of(part, index)
        except UserError as error:
            unreadable.append(str(error))
            continue
        if labels is None:
            continue
        found = counts_of(labels, len(classes))
        counts, class_images = counts + found, class_images + (found > 0)
        sizes.append(labels.shape[::-1])
        per_image.append(int((found > 0).sum()))
        unlabelled.append(100 * (1 - float(found.sum()) / labels.size))
    return DataStatistics(
        images=sum(map(len, parts)),
        classes=classes,
        unit="pixels",
        counts=counts,
        class_images=class_images,
        counted=len(sizes),
        sizes=np.reshape(np.asarray(sizes, int), (-1, 2)),
        figures={"pixels without a label, %": round(share_without(counts, sizes), 2)} if sizes else {},
        distributions={
            "classes in an image": (np.asarray(per_image, int), "images"),
            "pixels without a label, in % of the image": (np.asarray(unlabelled, float), "images"),
        },
        unreadable=unreadable,
    )


def names_of(dataset: Any) -> list[str]:
    return [str(name) for name in dataset.metainfo["classes"]]


def labels_of(dataset: Any, index: int) -> np.ndarray | None:
    """The class indices (H, W) of an image's pixels, by the loading steps of its pipeline. No image is decoded.

    None for a data set that is none of mm's, or whose pipeline loads no masks.

    Raises:
        UserError: the mask cannot be read, or holds what is no class.
    """
    steps = getattr(getattr(dataset, "pipeline", None), "transforms", ())
    names = [(type(step).__name__, step) for step in steps]
    loading = [step for name, step in names if name.startswith("Load") and not name.startswith("LoadImage")]
    found = dataset.get_data_info(index) if loading and hasattr(dataset, "get_data_info") else {}
    for step in loading:
        found = step(found)
    return found.get("gt_seg_map")


def counts_of(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(num_classes,) int64: the number of pixels of each class."""
    return np.bincount(labels.ravel(), minlength=num_classes)[:num_classes].astype(np.int64)


def share_without(counts: np.ndarray, sizes: list[tuple[int, int]]) -> float:
    """The share of all pixels that have no class, in percent."""
    total = sum(width * height for width, height in sizes)
    return 100 * (1 - int(counts.sum()) / total)
