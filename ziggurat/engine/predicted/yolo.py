"""Predictions as YOLO's text labels, ``labels/<name>.txt`` and ``data.yaml``: what trainings and annotation tools take.

A line is an object: its class, and the box or the outline of the mask, in shares of the image's sides. The lines have
no score, since many readers take only numbers of the shape.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from backbones.errors import UserError
from backbones.files import replaced_file
from ziggurat.engine.predicted.book import Book, Row, decoded

FOLDER, FILE = "labels", "data.yaml"


def write(book: Book, kind: type) -> list[str]:
    """Writes the labels of each image; arguments and result as for ``ziggurat.engine.predicted.table.write``."""
    import yaml

    (book.out / FOLDER).mkdir(exist_ok=True)
    partial = empty = 0
    for row in book.rows():
        lines = []
        for i, label in enumerate(row["labels"]):
            shape, is_whole = box_shape(row, i), True
            if row.get("masks"):
                shape, is_whole = outline(decoded(row["masks"][i]))
            partial += not is_whole
            empty += not len(shape)
            if len(shape):
                lines.append(f"{label} {' '.join(map('{:.6g}'.format, shape))}\n")
        with replaced_file(book.out / FOLDER / f"{row['file']}.txt") as beside:
            beside.write_text("".join(lines))
    names = dict(enumerate(book.classes))
    with replaced_file(book.out / FILE) as beside:
        beside.write_text(yaml.safe_dump(dict(names=names), allow_unicode=True, sort_keys=False), encoding="utf-8")
    notes = ["the score of each object: YOLO's lines have none, and predictions.jsonl has it"]
    if partial:
        notes.append(f"{partial} masks of several parts or with holes: the largest part's outline is written")
    if empty:
        notes.append(f"{empty} objects whose mask has no area")
    return notes


def box_shape(row: Row, i: int) -> list[float]:
    """x and y of the centre, width and height of a box, in shares of the image's sides."""
    (x1, y1, x2, y2), width, height = row["boxes"][i], row["width"], row["height"]
    shape = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    return [min(max(value, 0.0), 1.0) for value in shape]


def outline(mask: np.ndarray) -> tuple[Sequence[float], bool]:
    """The outline x, y, x, y, ... of a mask's largest part, in shares, and whether there is no other part or hole.

    An outline runs through the centres of the outer pixels, as OpenCV gives it, so it is half a pixel inside.
    """
    try:
        import cv2
    except ModuleNotFoundError:
        raise UserError("outlines of masks need the package opencv-python-headless; install it with pip") from None
    contours, inside = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = [one for one, links in zip(contours, [] if inside is None else inside[0]) if links[3] < 0]
    largest: Any = max(outer, key=cv2.contourArea, default=None)
    if largest is None or len(largest) < 3:
        return [], len(contours) <= 1
    points = (largest.reshape(-1, 2) + 0.5) / mask.shape[::-1]
    return points.ravel().tolist(), len(contours) == 1
