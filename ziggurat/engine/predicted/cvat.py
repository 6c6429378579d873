"""Predictions as CVAT's XML, "CVAT for images 1.1", to upload as annotations of a task.

``predictions.cvat.xml`` is for a task of all images. A video is a task of its own, and has ``cvat/<video>.xml``. Its
frames have the names and the numbers that CVAT gives to them.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from backbones.files import replaced_file
from ziggurat.engine.predicted.book import Book, Row, box_of, decoded, frame_name, runs_of, xml_text
from ziggurat.engine.results import ClassMap, Scores

FILE, VIDEO_FILE = "predictions.cvat.xml", "cvat/{}.xml"
AUTOMATIC = dict(source="auto")


def write(book: Book, kind: type) -> list[str]:
    """Writes the files; arguments and result as for ``ziggurat.engine.predicted.table.write``.

    Objects are boxes, or masks where there are masks. Classes of a map are masks. The best class of an image is a tag.
    """
    shapes = {Scores: tags, ClassMap: areas}.get(kind, objects)
    if not book.has_only_videos:
        images = (({"id": i, "name": book.name(row)}, row) for i, row in enumerate(book.images()))
        write_file(book.out / FILE, book, images, shapes)
    for clip, rows in book.videos():
        frames = (({"id": row["frame"], "name": frame_name(row)}, row) for row in rows)
        write_file(book.out / VIDEO_FILE.format(clip.first["file"]), book, frames, shapes)
    return ["the score of each prediction: CVAT has none, and predictions.jsonl has it"]


def write_file(
    path: Path,
    book: Book,
    images: Iterable[tuple[dict[str, Any], Row]],
    shapes: Callable[[Book, Row], Iterator[str]],
) -> None:
    """Writes the XML of a task, whose images come with the attributes ``id`` and ``name``."""
    form = dict(encoding="utf-8", errors="backslashreplace")
    with replaced_file(path) as beside, beside.open("w", **form) as stream:
        labels = "".join(f"<label>{element('name', text=name)}</label>" for name in book.classes)
        stream.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        stream.write(f"<meta><task><labels>{labels}</labels></task></meta>\n")
        for attributes, row in images:
            size = dict(width=row["width"], height=row["height"])
            stream.write(opening("image", attributes | size) + ">\n")
            stream.writelines(f"  {shape}\n" for shape in shapes(book, row))
            stream.write("</image>\n")
        stream.write("</annotations>\n")


def tags(book: Book, row: Row) -> Iterator[str]:
    if row["categories"]:
        yield opening("tag", dict(label=row["categories"][0], **AUTOMATIC)) + "/>"


def objects(book: Book, row: Row) -> Iterator[str]:
    masks = row.get("masks") or [None] * len(row["boxes"])
    for name, box, mask in zip(row["categories"], row["boxes"], masks, strict=True):
        if mask is None:
            corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), box))
            yield opening("box", dict(label=name, **AUTOMATIC, occluded=0) | corners | dict(z_order=0)) + "/>"
        elif (pixels := decoded(mask)).any():
            yield mask_element(name, pixels)


def areas(book: Book, row: Row) -> Iterator[str]:
    for label, pixels in book.areas(row):
        yield mask_element(book.classes[label], pixels)


def mask_element(name: str, mask: np.ndarray) -> str:
    """A mask. CVAT counts runs along the rows of the mask's box, from a run of ground on."""
    left, top, right, bottom = box_of(mask)
    runs = runs_of(mask[top:bottom, left:right].ravel())
    place = dict(left=left, top=top, width=right - left, height=bottom - top, z_order=0)
    code = ", ".join(map(str, runs[: len(runs) - (runs[-1] == 0)]))
    return opening("mask", dict(label=name, **AUTOMATIC, occluded=0, rle=code) | place) + "/>"


def opening(tag: str, attributes: dict[str, Any]) -> str:
    return " ".join([f"<{tag}", *(f"{key}={quoteattr(xml_text(value))}" for key, value in attributes.items())])


def element(tag: str, text: str) -> str:
    return f"<{tag}>{escape(xml_text(text))}</{tag}>"
