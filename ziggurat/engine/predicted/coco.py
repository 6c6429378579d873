"""Predictions as COCO json with scores, ``predictions.coco.json``, which is also a data set to train on."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from backbones.files import replaced_file
from ziggurat.engine.coco_masks import mask_tools
from ziggurat.engine.predicted.book import Book, Row
from ziggurat.engine.results import ClassMap

FILE = "predictions.coco.json"


def write(book: Book, kind: type) -> list[str]:
    """Writes the json, one image after the other; arguments and result as of ``ziggurat.engine.predicted.table.write``.

    An object is an annotation with ``score``. The area of a class in a class map is one annotation. Masks are run
    lengths. Ids begin at 1, so the id of a category is the class index and 1.
    """
    categories = [dict(id=i, name=name) for i, name in enumerate(book.classes, 1)]
    of_row = areas if kind is ClassMap else objects
    with replaced_file(book.out / FILE) as beside, beside.open("w", encoding="utf-8") as stream:
        stream.write(f'{{"categories": {json.dumps(categories)},\n"images": ')
        write_list(stream, images(book))
        stream.write(',\n"annotations": ')
        found = (one for i, row in enumerate(book.rows(), 1) for one in of_row(book, row, i))
        write_list(stream, (dict(id=number) | one for number, one in enumerate(found, 1)))
        stream.write("}\n")
    return []


def write_list(stream: TextIO, items: Iterable[dict[str, Any]]) -> None:
    """Writes a list of JSON of any length, an item in each line."""
    lead = "[\n"
    for item in items:
        stream.write(lead + json.dumps(item))
        lead = ",\n"
    stream.write("[]" if lead == "[\n" else "]")


def images(book: Book) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(book.rows(), 1):
        yield dict(id=number, file_name=book.name(row), width=row["width"], height=row["height"])


def objects(book: Book, row: Row, image_id: int) -> Iterator[dict[str, Any]]:
    masks = row.get("masks") or [None] * len(row["boxes"])
    for box, score, label, mask in zip(row["boxes"], row["scores"], row["labels"], masks, strict=True):
        x1, y1, x2, y2 = box
        made = dict(image_id=image_id, category_id=label + 1, bbox=[x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)])
        if mask is None:
            made |= dict(area=round((x2 - x1) * (y2 - y1), 2))
        else:
            made |= dict(area=float(mask_tools().area(mask)), segmentation=mask)
        yield made | dict(iscrowd=0, score=score)


def areas(book: Book, row: Row, image_id: int) -> Iterator[dict[str, Any]]:
    tools = mask_tools()
    for label, mask in book.areas(row):
        code = tools.encode(mask.astype("uint8", order="F"))
        runs = dict(size=[row["height"], row["width"]], counts=code["counts"].decode("ascii"))
        made = dict(image_id=image_id, category_id=label + 1, bbox=tools.toBbox(code).tolist())
        yield made | dict(area=float(tools.area(code)), segmentation=runs, iscrowd=0)
