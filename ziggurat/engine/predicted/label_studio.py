"""Predictions for Label Studio: ``predictions.label-studio.json``, tasks with predictions, and its interface as XML.

Images of this machine have addresses as Label Studio serves local files: start it with
``LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true`` and ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/``. The form is that of
https://labelstud.io/guide/predictions, and of masks that of https://github.com/thi-ng/umbrella, package rle-pack.
"""

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from backbones.files import replaced_file
from ziggurat.engine.predicted.book import Book, Row, decoded, is_file, runs_of, xml_text
from ziggurat.engine.predicted.coco import write_list
from ziggurat.engine.results import ClassMap, Instances, Scores

FILE, INTERFACE = "predictions.label-studio.json", "predictions.label-studio.xml"
SERVED = "/data/local-files/?d="
LONGEST = 1 << 16  # bytes of a run, whose length is written with 16 bits


def write(book: Book, kind: type) -> list[str]:
    """Writes both files; arguments and result as for ``ziggurat.engine.predicted.table.write``."""
    has_masks = kind is ClassMap or (kind is Instances and any(row.get("masks") for row in book.rows()))
    tag = "Choices" if kind is Scores else "BrushLabels" if has_masks else "RectangleLabels"
    with replaced_file(book.out / FILE) as beside, beside.open("w", encoding="utf-8") as stream:
        write_list(stream, (task(book, row, kind) for row in book.rows()))
    value = "Choice" if kind is Scores else "Label"
    names = "".join(f"    <{value} value={quoteattr(xml_text(name))}/>\n" for name in book.classes)
    with replaced_file(book.out / INTERFACE) as beside:
        control = f'  <{tag} name="label" toName="image">\n{names}  </{tag}>\n'
        page = f'<View>\n  <Image name="image" value="$image"/>\n{control}</View>\n'
        beside.write_text(page, encoding="utf-8", errors="backslashreplace")
    return []


def task(book: Book, row: Row, kind: type) -> dict[str, Any]:
    results = list({Scores: choices, ClassMap: areas}.get(kind, objects)(book, row))
    scores = [one["score"] for one in results if "score" in one]
    score = dict(score=round(float(np.mean(scores)), 4)) if scores else {}
    return dict(data=dict(image=address(row)), predictions=[dict(result=results, **score)])


def address(row: Row) -> str:
    if not is_file(row):
        return row["image"]
    return SERVED + quote(os.fsencode(os.path.abspath(row["image"]).lstrip("/")))


def region(row: Row, number: int, kind: str, name: str, value: dict[str, Any], **further: Any) -> dict[str, Any]:
    """A result of Label Studio: a shape with its class, whose ``value`` gets the class under the key of its kind."""
    size = dict(original_width=row["width"], original_height=row["height"], image_rotation=0)
    names = dict(from_name="label", to_name="image", type=kind)
    return dict(id=f"r{number}", **names, **size, value=value | {kind: [name]}, **further)


def choices(book: Book, row: Row) -> Iterator[dict[str, Any]]:
    if row["categories"]:
        names = dict(from_name="label", to_name="image", type="choices")
        yield dict(id="r0", **names, value=dict(choices=row["categories"][:1]), score=row["scores"][0])


def objects(book: Book, row: Row) -> Iterator[dict[str, Any]]:
    masks = row.get("masks") or [None] * len(row["boxes"])
    rows = zip(row["boxes"], row["categories"], row["scores"], masks, strict=True)
    for i, ((x1, y1, x2, y2), name, score, mask) in enumerate(rows):
        if mask is not None:
            yield region(row, i, "brushlabels", name, brush(decoded(mask)), score=score)
            continue
        across, down = 100 / row["width"], 100 / row["height"]  # Label Studio's boxes are in percent
        box = dict(x=x1 * across, y=y1 * down, width=(x2 - x1) * across, height=(y2 - y1) * down, rotation=0)
        yield region(row, i, "rectanglelabels", name, box, score=score)


def areas(book: Book, row: Row) -> Iterator[dict[str, Any]]:
    for i, (label, mask) in enumerate(book.areas(row)):
        yield region(row, i, "brushlabels", book.classes[label], brush(mask))


def brush(mask: np.ndarray) -> dict[str, Any]:
    return dict(format="rle", rle=packed(mask))


def packed(mask: np.ndarray) -> list[int]:
    """The bytes of rle-pack for a mask, (height, width), as RGBA pixels of 0 or 255, row by row.

    32 bits are the number of bytes, 5 bits the size of a byte less 1, and four times 4 bits the sizes of a run's length
    less 1. A run is a bit 1, two bits that choose one of these sizes, the length less 1, and the byte.
    """
    lengths = runs_of(mask.ravel()) * 4
    values = np.arange(len(lengths)) % 2 * 255
    parts = -(-lengths // LONGEST)  # a longer run is written as several
    values = np.repeat(values, parts)
    number = np.arange(len(values)) - np.repeat(np.cumsum(parts) - parts, parts)
    lengths = np.minimum(np.repeat(lengths, parts) - number * LONGEST, LONGEST)
    head = f"{mask.size * 4:032b}{7:05b}" + f"{15:04b}" * 4
    bits = np.zeros((len(lengths), 27), np.uint8)
    bits[:, 0] = 1
    bits[:, 3:19] = (lengths[:, None] - 1) >> np.arange(15, -1, -1) & 1
    bits[:, 19:] = values[:, None] >> np.arange(7, -1, -1) & 1
    return np.packbits(np.concatenate([np.frombuffer(head.encode(), np.uint8) - 48, bits.ravel()])).tolist()
