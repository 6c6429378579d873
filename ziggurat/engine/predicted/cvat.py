"""Predictions as CVAT's XML, ``predictions.cvat.xml``: "CVAT for images 1.1", to upload as annotations of a task."""

from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from backbones.files import replaced_file
from ziggurat.engine.predicted.book import Book, Row, box_of, decoded, runs_of, xml_text
from ziggurat.engine.results import ClassMap, Scores

FILE = "predictions.cvat.xml"
AUTOMATIC = dict(source="auto")


def write(book: Book, kind: type) -> list[str]:
    """Writes the XML; arguments and result as for ``ziggurat.engine.predicted.table.write``.

    Objects are boxes, or masks where there are masks. Classes of a map are masks. The best class of an image is a tag.
    """
    shapes = {Scores: tags, ClassMap: areas}.get(kind, objects)
    form = dict(encoding="utf-8", errors="backslashreplace")
    with replaced_file(book.out / FILE) as beside, beside.open("w", **form) as stream:
        labels = "".join(f"<label>{element('name', text=name)}</label>" for name in book.classes)
        stream.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        stream.write(f"<meta><task><labels>{labels}</labels></task></meta>\n")
        for number, row in enumerate(book.rows()):
            size = dict(width=row["width"], height=row["height"])
            stream.write(opening("image", dict(id=number, name=book.name(row)) | size) + ">\n")
            stream.writelines(f"  {shape}\n" for shape in shapes(book, row))
            stream.write("</image>\n")
        stream.write("</annotations>\n")
    return ["the score of each prediction: CVAT has none, and predictions.jsonl has it"]


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
