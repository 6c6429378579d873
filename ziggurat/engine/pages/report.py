"""The page of a test: figures, tables and charts of its report, and the worst and best images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ziggurat.engine.pages.content import Card, Page, Picture, Table
from ziggurat.engine.pages.page import write_page

CONTENT, IMAGES = "report.json", "test_images.json"
GALLERIES = {"worst": "Worst images, worst first", "best": "Best images, best first"}
FILTERED = 100  # of more values, a filter has those alone that are on the page
FILES = ("report.json", "per_class.csv", "confusion.csv", "errors_bbox.csv", "errors_segm.csv", "test_images.json")


def write_report_page(folder: Path, task: Any, tested: str) -> Path | None:
    """Writes the page of a report, and returns its path. None if the test was not scored, and so has no report.

    Args:
        folder: of the report, with its files.
        task: the :class:`ziggurat.engine.task.Task` that has written them.
        tested: what was tested, e.g. the checkpoint's path.
    """
    if not (folder / CONTENT).is_file():
        return None
    page = task.report_page(json.loads((folder / CONTENT).read_text()), folder)
    page.facts = {"tested": tested, **page.facts}
    add_images(page, images_of(folder), folder)
    page.files = {name: name for name in FILES if (folder / name).is_file()}
    return write_page(folder, page)


def images_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The list of the worst and best images. It is empty where the test has written none.

    A list that is older than the report is that of an earlier test.
    """
    path = folder / IMAGES
    if not path.is_file() or path.stat().st_mtime_ns < (folder / CONTENT).stat().st_mtime_ns:
        return {}
    return json.loads(path.read_text())


def add_images(page: Page, images: Mapping[str, Sequence[dict[str, Any]]], folder: Path) -> None:
    """Gives a page its gallery, in place, and leaves values of long filters out that are not on the page."""
    for name, title in GALLERIES.items():
        page.galleries = {**page.galleries, title: [card_of(one, folder) for one in images.get(name, ())]}
    cards = [card for gallery in page.galleries.values() for card in gallery]
    for name, values in page.filters.items():
        there = {value for card in cards for value in card.marks.get(name, ())}
        kept = values if len(values) <= FILTERED else [value for value in values if value in there]
        page.filters = {**page.filters, name: kept}
    if not cards:
        page.notes = [*page.notes, "The test has no list of its worst images, so the page shows none."]


def card_of(entry: Mapping[str, Any], folder: Path) -> Card:
    """The card of an entry of the list of images."""
    pictures = [picture_in(folder, file, title) for title, file in entry["pictures"].items()]
    *lines, name = entry["caption"]
    return Card(name, pictures, lines, entry["filters"])


def picture_in(folder: Path, file: str, label: str) -> Picture:
    with Image.open(folder / file) as image:
        return Picture(file, label, *image.size)


def chart_in(folder: Path, file: str, label: str) -> Picture | None:
    """A chart of the report; None if the report has no such file."""
    return picture_in(folder, file, label) if (folder / file).is_file() else None


def dict_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of dicts with the same keys."""
    return Table(title, list(rows[0]) if rows else [], [list(row.values()) for row in rows])
