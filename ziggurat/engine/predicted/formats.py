"""The forms in which predictions are written, by the words of ``--format``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from backbones.errors import UserError, shorten, unknown
from ziggurat.engine.predicted import coco, cvat, instance_maps, label_studio, label_studio_videos, table, yolo
from ziggurat.engine.predicted.book import MAP, Book, Row
from ziggurat.engine.results import ClassMap, Instances, Scores


class Format(NamedTuple):
    """A form of predictions.

    Attributes:
        results: the types of results that can be written.
        files: what is written into the folder. ``{}`` stands for the name of an image's files.
        write: writes the files of all images and videos, and returns what they lack, in words. None for files that are
            written with each image, see :mod:`ziggurat.engine.predicted.files`.
        of_videos: what may be written for videos: files of a video, whose name ``{}`` stands for, of its frames, which
            ``*`` stands for, and of all videos.
        images_only: those of the types of results that cannot be written of frames.
        live: whether cameras and streams can be given.
    """

    results: tuple[type, ...]
    files: tuple[str, ...]
    write: Callable[[Book, type], list[str]] | None = None
    of_videos: tuple[str, ...] = ()
    images_only: tuple[type, ...] = ()
    live: bool = True


CONTENT = {  # of a line, beside the image's size
    Scores: ("labels", "categories", "scores"),
    Instances: ("labels", "categories", "scores", "boxes"),
    ClassMap: ("classes",),
}
ALL = (Scores, Instances, ClassMap)
PANOPTIC_MAP = "panoptic/{}.png"
MAPS = (MAP, PANOPTIC_MAP)  # are written for images whatever the formats are
PICTURES, JSON, MASKS = "pictures", "json", "masks"
DEFAULT = (PICTURES, JSON)
DRAWN = "{}.mp4"  # of a video
FRAME_MAP, PANOPTIC_FRAME_MAP = "masks/{}/*.png", "panoptic/{}/*.png"
FORMATS = {
    PICTURES: Format(ALL, ("{}.png",), of_videos=(DRAWN,)),
    JSON: Format(ALL, ("{}.json",)),
    MASKS: Format((Instances, ClassMap), (MAP,), instance_maps.write, (FRAME_MAP, PANOPTIC_FRAME_MAP)),
    "csv": Format(ALL, (table.FILE,), table.write),
    "coco": Format((Instances, ClassMap), (coco.FILE,), coco.write, (FRAME_MAP,)),
    "yolo": Format((Instances,), (f"{yolo.FOLDER}/{{}}.txt", yolo.FILE), yolo.write, (f"{yolo.FOLDER}/{{}}/*.txt",)),
    "label-studio": Format(
        ALL,
        (label_studio.FILE, label_studio.INTERFACE),
        label_studio.write,
        (label_studio_videos.FILE, label_studio_videos.INTERFACE),
        images_only=(ClassMap,),
        live=False,
    ),
    "cvat": Format(ALL, (cvat.FILE,), cvat.write, (cvat.VIDEO_FILE, FRAME_MAP)),
}
OF_MAPS = (MASKS, "coco", "cvat")  # are made of class maps, which frames have only for these
# JSON files of all images have these names, and an image may have a JSON file.
FILES = [file for one in FORMATS.values() for file in (*one.files, *one.of_videos)]
RESERVED = {Path(file).stem for file in FILES if file.endswith(".json")} - {"{}"}


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


def check_videos(videos: Sequence[str], live: Sequence[str], formats: Sequence[str], kind: type, task: str) -> None:
    """Checks whether the formats take videos.

    Args:
        videos: the names of those that are given.
        live: those of cameras and streams among them.
        formats: as :func:`check_formats` returns them.
        kind: the type of the results.
        task: the name of their task, for messages.

    Raises:
        UserError: there are videos, and a format has no form for such results of frames, or none for a camera.
    """
    for names, reason, takes in (
        (videos, f"has no form for {task} of a video's frames", lambda one: kind not in one.images_only),
        (live, "shows the file of a video, and a camera or a stream has none", lambda one: one.live),
    ):
        others = [word for word in formats if names and not takes(FORMATS[word])]
        if others:
            allowed = [name for name, one in FORMATS.items() if kind in one.results and takes(one)]
            there = f"{', '.join(allowed)}; predictions.jsonl has all frames"
            raise UserError(f"--format {others[0]} {reason}; {names[0]} is given; allowed: {there}")


def files_of_each(kind: type | None, formats: Sequence[str]) -> list[str]:
    """The names of the files that are written as soon as an image is predicted, as in ``Format.files``."""
    forms = [file for word in formats if FORMATS[word].write is None for file in FORMATS[word].files]
    return [*forms, MAP] if kind is ClassMap else forms


def maps_of_frames(is_panoptic: bool, kind: type | None, formats: Sequence[str]) -> list[str]:
    """The names of the maps that are written as soon as a frame is predicted, as in ``Format.files``."""
    if kind is ClassMap:
        return [] if set(formats).isdisjoint(OF_MAPS) else [MAP]
    return [PANOPTIC_MAP] if is_panoptic and MASKS in formats else []


def write_summaries(book: Book, kind: type, formats: Sequence[str]) -> list[str]:
    """Writes the files of all images and videos, and returns what they lack, in words.

    Args:
        book: the predictions.
        kind: the type of the results.
        formats: as :func:`check_formats` returns them.

    Raises:
        UserError: a line of ``predictions.jsonl`` lacks what such results have.
    """
    every = replace(book, rows=lambda: (checked(row, kind) for row in book.rows()))
    mapped = replace(book, rows=lambda: filter(every.has_map, every.rows()))
    notes = []
    for word in formats:
        write, is_of_maps = FORMATS[word].write, kind is ClassMap and word in OF_MAPS
        if is_of_maps:
            videos = dict.fromkeys(row["image"] for row in every.frames() if not every.has_map(row))
            lacking = f"frames of {shorten(videos)}, which have no class map: give the videos again with this --format"
            notes += [f"{word}: {lacking}"] if videos else []
        if write is not None and not (word == MASKS and is_of_maps):  # written with each image
            notes += [f"{word}: {note}" for note in write(mapped if is_of_maps else every, kind)]
    return notes


def checked(row: Row, kind: type) -> Row:
    """A line, which others may have written; UserError if it lacks what a result of its type has."""
    place = ("width", "height", "time") if "frame" in row else ("width", "height")
    lacking = [key for key in (*place, *CONTENT[kind]) if key not in row]
    if lacking:
        raise UserError(f"the line of {row['image']} in predictions.jsonl lacks {lacking[0]}; allowed: another --out")
    return row
