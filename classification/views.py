"""What is in a classifier's data set: images with their class, and statistics."""

from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import UserError
from backbones.images import upright_size
from backbones.pixels import picture
from classification.data.images import LabelledImages
from classification.data.transforms import size_of
from classification.imagenet import word_of
from ziggurat.engine.draw import reduced
from ziggurat.engine.originals import innermost, looked_at, original
from ziggurat.engine.task_views import Annotated, DataStatistics

LEAST = 192  # pixels; narrower images are enlarged


def annotated(dataset: Any, index: int) -> Annotated | None:
    """As :meth:`ziggurat.engine.task_views.TaskViews.annotated`."""
    inner, place = original(dataset, index)
    if not isinstance(inner, LabelledImages):
        return None
    image = inner.read(place)
    image = picture(image.permute(1, 2, 0).numpy()) if hasattr(image, "permute") else image.convert("RGB")
    name, label = inner.samples[place]
    classes = [word_of(inner.classes[label])] if inner.classes else []
    lines = [*classes, f"{image.width} x {image.height} pixels"]
    image = image.resize([side * max(1, -(-LEAST // image.width)) for side in image.size])
    return Annotated(reduced(image), str(name), lines, classes)


def statistics(dataset: Any, sample: int | None) -> DataStatistics:
    """As :meth:`ziggurat.engine.task_views.TaskViews.statistics`. The sizes are of ``sample`` images."""
    parts = [part for part in innermost(dataset) if isinstance(part, LabelledImages)]
    classes = parts[0].classes if parts else []
    labels = np.concatenate([part.samples.labels for part in parts]) if parts else np.zeros(0, np.int64)
    counts = np.bincount(labels[labels >= 0], minlength=len(classes)).astype(np.int64)
    sizes, unreadable = [], []
    for part, index in looked_at(dataset, sample) if parts else ():
        try:
            sizes.append(image_size(part, index))
        except UserError as error:
            unreadable.append(str(error))
    return DataStatistics(
        images=len(labels),
        classes=[word_of(name) for name in classes],
        unit="images",
        counts=counts,
        class_images=counts,
        counted=len(labels),
        sizes=np.reshape(np.asarray(sizes, int), (-1, 2)),
        distributions={"images of a class": (counts, "classes")} if len(classes) > 1 else {},
        unreadable=unreadable,
    )


def image_size(dataset: LabelledImages, index: int) -> tuple[int, int]:
    """Width and height of an image. Only an image that is no file of its own is decoded."""
    path = Path(dataset.samples[index][0])
    return upright_size(path, dataset.reading) if path.is_file() else tuple(size_of(dataset.read(index)))
