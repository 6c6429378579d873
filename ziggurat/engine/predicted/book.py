"""The predictions of a folder, as the writers of files for other programs read them."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
from PIL import Image

from backbones.errors import UserError
from ziggurat.engine.addresses import ADDRESS
from ziggurat.engine.coco_masks import mask_tools

NOT_IN_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Row = dict[str, Any]


@dataclass
class Book:
    """All predictions of a folder.

    Attributes:
        out: the folder.
        classes: the names of the model's classes, by index.
        rows: gives the recorded lines of images, see :class:`ziggurat.engine.predicted.journal.Journal`; with True as
            its argument those of videos' frames, too. They may be too many for memory.
    """

    out: Path
    classes: Sequence[str]
    rows: Callable[..., Iterator[Row]]

    @cached_property
    def folder(self) -> str:
        """The folder that all images lie in or below."""
        parents = {os.path.dirname(os.path.abspath(row["image"])) for row in self.rows() if is_file(row)}
        return os.path.commonpath(parents) if parents else os.getcwd()

    def name(self, row: Row) -> str:
        """The name of an image: its path from :attr:`folder` on, with ``/``; of an address its last word."""
        if not is_file(row):
            return unquote(PurePath(urlparse(row["image"]).path).name) or row["file"]
        return PurePath(os.path.relpath(os.path.abspath(row["image"]), self.folder)).as_posix()

    def areas(self, row: Row) -> list[tuple[int, np.ndarray]]:
        """Class index and mask, (height, width) bool, of each class in a class map, the largest first."""
        path = self.out / "masks" / f"{row['file']}.png"
        try:
            with Image.open(path) as image:
                indices = np.asarray(image)
        except OSError as error:
            reason = error.strerror or "damaged"
            raise UserError(f"{path} cannot be read ({reason}); allowed: predict {row['image']} again") from None
        return [(one["index"], indices == one["index"]) for one in row["classes"]]


def is_file(row: Row) -> bool:
    return not ADDRESS.match(row["image"])


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
