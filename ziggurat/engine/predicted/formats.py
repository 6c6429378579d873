"""The forms in which predictions are written, by the words of ``--format``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from backbones.errors import UserError, unknown
from ziggurat.engine.predicted import coco, cvat, instance_maps, label_studio, table, yolo
from ziggurat.engine.predicted.book import Book, Row
from ziggurat.engine.results import ClassMap, Instances, Scores


class Format(NamedTuple):
    """A form of predictions.

    Attributes:
        results: the types of results that can be written.
        files: what is written into the folder. ``{}`` stands for the name of an image's files.
        write: writes the files of all images, and returns what they lack, in words. None for files that are written
            with each image, see :mod:`ziggurat.engine.predicted.files`.
        videos: whether videos can be given, too.
    """

    results: tuple[type, ...]
    files: tuple[str, ...]
    write: Callable[[Book, type], list[str]] | None = None
    videos: bool = False


CONTENT = {  # of a line, beside the image's size
    Scores: ("labels", "categories", "scores"),
    Instances: ("labels", "categories", "scores", "boxes"),
    ClassMap: ("classes",),
}
ALL = (Scores, Instances, ClassMap)
PICTURES, JSON, MASKS = "pictures", "json", "masks"
DEFAULT = (PICTURES, JSON)
FORMATS = {
    PICTURES: Format(ALL, ("{}.png",), videos=True),
    JSON: Format(ALL, ("{}.json",), videos=True),
    MASKS: Format((Instances, ClassMap), ("masks/{}.png",), instance_maps.write),
    "csv": Format(ALL, (table.FILE,), table.write, videos=True),
    "coco": Format((Instances, ClassMap), (coco.FILE,), coco.write),
    "yolo": Format((Instances,), (f"{yolo.FOLDER}/{{}}.txt", yolo.FILE), yolo.write),
    "label-studio": Format(ALL, (label_studio.FILE, label_studio.INTERFACE), label_studio.write),
    "cvat": Format(ALL, (cvat.FILE,), cvat.write),
}
# JSON files of all images have these names, and an image may have a JSON file.
RESERVED = {Path(file).stem for one in FORMATS.values() for file in one.files if file.endswith(".json")} - {"{}"}


def check_formats(words: Sequence[str], kind: type, task: str) -> list[str]:
    """The words, each once.

    Args:
        words: of ``FORMATS``.
        kind: the type of the results.
        task: the name of their task, for messages.

    Raises:
        UserError: a word is unknown, or is not for such results.
    """
    for word in words:
        if word not in FORMATS:
            raise unknown("--format", word, FORMATS)
        if kind not in FORMATS[word].results:
            allowed = ", ".join(name for name, one in FORMATS.items() if kind in one.results)
            raise UserError(f"--format {word} is not for {task}; allowed: {allowed}")
    return list(dict.fromkeys(words))


def files_of_each(kind: type | None, formats: Sequence[str]) -> list[str]:
    """The names of the files that are written as soon as an image is predicted, as in ``Format.files``."""
    forms = [file for word in formats if FORMATS[word].write is None for file in FORMATS[word].files]
    return [*forms, *FORMATS[MASKS].files] if kind is ClassMap else forms


def write_summaries(book: Book, kind: type, formats: Sequence[str]) -> list[str]:
    """Writes the files of all images, and returns what they lack, in words.

    Args:
        book: the predictions.
        kind: the type of the results.
        formats: as :func:`check_formats` returns them.

    Raises:
        UserError: a line of ``predictions.jsonl`` lacks what such results have.
    """
    notes = []
    complete = Book(book.out, book.classes, lambda *frames: (checked(row, kind) for row in book.rows(*frames)))
    for word in formats:
        write = FORMATS[word].write
        if write is not None and not (word == MASKS and kind is ClassMap):  # written with each image
            notes += [f"{word}: {note}" for note in write(complete, kind)]
    return notes


def checked(row: Row, kind: type) -> Row:
    """A line, which others may have written; UserError if it lacks what a result of its type has."""
    lacking = [key for key in ("width", "height", *CONTENT[kind]) if key not in row]
    if lacking:
        raise UserError(f"the line of {row['image']} in predictions.jsonl lacks {lacking[0]}; allowed: another --out")
    return row
