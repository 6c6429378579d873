"""The predictions of a folder, as the writers of files for other programs read them."""

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlparse

import numpy as np
from PIL import Image

from backbones.errors import UserError
from ziggurat.engine.addresses import ADDRESS
from ziggurat.engine.coco_masks import mask_tools
from ziggurat.engine.videos import is_video

MAP = "masks/{}.png"  # of classes
NOT_IN_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Row = dict[str, Any]


class Clip(NamedTuple):
    """What the lines of a video's frames say together.

    Attributes:
        number: of the video in its folder, from 1.
        first, last: the lines of the first and the last frame, without what was predicted.
        length: how many frames were predicted.
    """

    number: int
    first: Row
    last: Row
    length: int


@dataclass
class Book:
    """All predictions of a folder.

    Attributes:
        out: the folder.
        classes: the names of the model's classes, by index.
        rows: gives the recorded lines of images and of videos' frames, see
            :class:`ziggurat.engine.predicted.journal.Journal`. The frames of a video follow each other. The lines may
            be too many for memory.
    """

    out: Path
    classes: Sequence[str]
    rows: Callable[[], Iterator[Row]]

    @cached_property
    def folder(self) -> str:
        """The folder that all images and videos lie in or below."""
        parents = {os.path.dirname(os.path.abspath(row["image"])) for row in self.rows() if is_file(row)}
        return os.path.commonpath(parents) if parents else os.getcwd()

    @cached_property
    def clips(self) -> dict[str, Clip]:
        """The videos by their paths, in the order in which they were predicted."""
        found: dict[str, Clip] = {}
        for row in self.frames():
            place = {key: row[key] for key in ("image", "file", "frame", "time", "width", "height")}
            clip = found.get(row["image"]) or Clip(len(found) + 1, place, place, 0)
            found[row["image"]] = clip._replace(last=place, length=clip.length + 1)
        return found

    @cached_property
    def has_only_videos(self) -> bool:
        return bool(self.clips) and next(self.images(), None) is None

    def images(self) -> Iterator[Row]:
        return (row for row in self.rows() if "frame" not in row)

    def frames(self) -> Iterator[Row]:
        return (row for row in self.rows() if "frame" in row)

    def videos(self) -> Iterator[tuple[Clip, Iterator[Row]]]:
        """Each video, and the lines of its frames, which are read as they are asked for."""
        for path, rows in itertools.groupby(self.frames(), key=lambda row: row["image"]):
            yield self.clips[path], rows

    def name(self, row: Row) -> str:
        """The name of an image: its path from :attr:`folder` on, with ``/``; of an address its last word.

        A frame is named as a file in a folder of its video's name: ``street.mp4/frame_000012.jpg``, the index from 0.
        """
        return f"{self.source(row)}/{frame_name(row)}.jpg" if "frame" in row else self.source(row)

    def source(self, row: Row) -> str:
        """The name of an image or a video. That of a camera is the name of its files."""
        if is_live(row):
            return row["file"]
        if not is_file(row):
            return unquote(PurePath(urlparse(row["image"]).path).name) or row["file"]
        return PurePath(os.path.relpath(os.path.abspath(row["image"]), self.folder)).as_posix()

    def map_of(self, row: Row) -> Path:
        """The file of a class map."""
        return self.out / MAP.format(stem_of(row))

    def has_map(self, row: Row) -> bool:
        """Whether a class map is to be expected: those of frames are written only for formats that need them."""
        return "frame" not in row or self.map_of(row).exists()

    def areas(self, row: Row) -> list[tuple[int, np.ndarray]]:
        """Class index and mask, (height, width) bool, of each class in a class map, the largest first."""
        path = self.map_of(row)
        try:
            with Image.open(path) as image:
                indices = np.asarray(image)
        except OSError as error:
            reason = error.strerror or "damaged"
            raise UserError(f"{path} cannot be read ({reason}); allowed: predict {row['image']} again") from None
        return [(one["index"], indices == one["index"]) for one in row["classes"]]


def frame_name(row: Row) -> str:
    """The name of a frame as a file, without suffix."""
    return f"frame_{row['frame']:06d}"


def stem_of(row: Row) -> str:
    """The name of the files of an image, without suffix. Those of a frame are in a folder of its video's name."""
    return f"{row['file']}/{frame_name(row)}" if "frame" in row else row["file"]


def is_live(row: Row) -> bool:
    """Whether a line is of a frame from a camera or a stream."""
    return "frame" in row and not ADDRESS.match(row["image"]) and not is_video(row["image"])


def is_file(row: Row) -> bool:
    return not ADDRESS.match(row["image"]) and not is_live(row)


def decoded(mask: dict[str, Any]) -> np.ndarray:
    """The mask of COCO's run lengths, (height, width) bool."""
    return mask_tools().decode(mask).astype(bool)


def xml_text(value: Any) -> str:
    """A text with ``?`` in place of the characters that XML has no form for."""
    return NOT_IN_XML.sub("?", str(value))


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of a mask's pixels, the last two one beyond. The mask has a pixel."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def runs_of(values: np.ndarray) -> np.ndarray:
    """The lengths of the runs of equal values, (N,) bool, from a run of False on, which may be empty."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], values, [False]]).astype(np.int8)))
    return np.diff(np.concatenate([[0], changes, [len(values)]]))
