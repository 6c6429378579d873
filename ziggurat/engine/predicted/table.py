"""Predictions as one table of comma-separated values, ``predictions.csv``."""

import csv
from collections.abc import Iterator
from typing import Any

from backbones.files import replaced_file
from ziggurat.engine.predicted.book import Book, Row
from ziggurat.engine.results import ClassMap, Instances, Scores

FILE = "predictions.csv"
BEST = 5  # classes of an image
FORMAT = dict(newline="", encoding="utf-8", errors="surrogateescape")  # a path may be no text
OBJECTS = ["image", "label", "class", "score", "x1", "y1", "x2", "y2"]
AREAS = ["image", "label", "class", "fraction"]


def write(book: Book, kind: type) -> list[str]:
    """Writes the table: a row for each image that is classified, for each object, or for each class in a map.

    Where there are videos, two more columns have the index of a frame and its time in seconds.

    Args:
        book: the predictions.
        kind: the type of the results.

    Returns:
        Remarks; none.
    """
    columns, cells = {Scores: (columns_of(book), scores), Instances: (OBJECTS, objects), ClassMap: (AREAS, areas)}[kind]
    further = ["frame", "time"] if any("frame" in row for row in book.rows(True)) else []
    with replaced_file(book.out / FILE) as beside, beside.open("w", **FORMAT) as stream:
        table = csv.writer(stream)
        table.writerow([*columns, *further])
        for row in book.rows(True):
            table.writerows([*line, *(row.get(key, "") for key in further)] for line in cells(row))
    return []


def columns_of(book: Book) -> list[str]:
    """The columns of a table of classifications."""
    ranks = range(1, min(BEST, len(book.classes)) + 1)
    return ["image", *(f"{name}{'' if k == 1 else f'_{k}'}" for k in ranks for name in ("label", "class", "score"))]


def scores(row: Row) -> Iterator[list[Any]]:
    best = zip(row["labels"], row["categories"], map("{:.6f}".format, row["scores"]), strict=True)
    yield [row["image"], *(cell for one in list(best)[:BEST] for cell in one)]


def objects(row: Row) -> Iterator[list[Any]]:
    for label, name, score, box in zip(row["labels"], row["categories"], row["scores"], row["boxes"], strict=True):
        yield [row["image"], label, name, score, *box]


def areas(row: Row) -> Iterator[list[Any]]:
    for one in row["classes"]:
        yield [row["image"], one["index"], one["name"], one["fraction"]]
