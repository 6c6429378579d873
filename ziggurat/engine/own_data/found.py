"""The format of a folder: the one that ``data_format`` names, or the only one whose files are there."""

import posixpath
from collections import Counter
from types import ModuleType
from typing import Any

from backbones.errors import UserError, shorten, shown, unknown
from ziggurat.engine.own_data import boxes_csv, coco_json, cvat, labelme, voc, yolo
from ziggurat.engine.own_data.listing import Listing
from ziggurat.engine.splits import SPLITS

AUTO = "auto"
READERS: dict[str, ModuleType] = {
    "coco": coco_json,
    "yolo": yolo,
    "voc": voc,
    "labelme": labelme,
    "cvat": cvat,
    "boxes_csv": boxes_csv,
}
ONE_FILE = ("coco", "cvat", "boxes_csv")  # formats with one file for all images of a split


def find_format(listing: Listing, name: str, data_files: Any = None) -> tuple[str, dict[str, list[str]]]:
    """The format of a folder, and the names that each split consists of, as its reader's ``find`` gives them.

    Args:
        listing: the folder.
        name: a key of ``READERS``, or "auto".
        data_files: split -> annotation file below the folder, for formats of one file; None takes those found.

    Raises:
        UserError: there is no such format, the folder has none of its files, or for "auto" those of several formats.
    """
    if name != AUTO and name not in READERS:
        raise unknown("data_format", name, [AUTO, *READERS])
    if data_files:
        return with_files(listing, name, data_files)
    wanted = READERS if name == AUTO else {name: READERS[name]}
    found = {key: splits for key, reader in wanted.items() if (splits := reader.find(listing))}
    if not found:
        what = "no annotations of a known format" if name == AUTO else f"no annotations of the format {name}"
        allowed = f"data_format={AUTO} or one of {', '.join(READERS)}"
        raise UserError(f"{listing.root}: {what}; there are {kinds_of(listing)}; allowed: {allowed}")
    if len(found) > 1:
        there = "; ".join(f"{key} ({example_of(splits)})" for key, splits in found.items())
        raise UserError(
            f"{listing.root}: annotations of several formats: {there}; allowed: data_format={' or '.join(found)}"
        )
    return next(iter(found.items()))


def with_files(listing: Listing, name: str, data_files: Any) -> tuple[str, dict[str, list[str]]]:
    """As :func:`find_format`, with the annotation files that a user names."""
    texts = isinstance(data_files, dict) and all(isinstance(file, str) for file in data_files.values())
    if not texts or not set(data_files) <= set(SPLITS):
        raise UserError(f"data_files={shown(data_files)}; allowed: dict(train=FILE, val=FILE, test=FILE)")
    for split, file in data_files.items():
        if file not in listing.files:
            near = [one for one in listing.files if posixpath.splitext(one)[1] == posixpath.splitext(str(file))[1]]
            raise UserError(
                f"data_files.{split}={file!r} is not in {listing.root}; allowed: files there, such as {shorten(near)}"
            )
    if name == AUTO:
        there = [
            key
            for key in ONE_FILE
            if any(set(data_files.values()) & set(f) for f in READERS[key].find(listing).values())
        ]
        name = there[0] if len(there) == 1 else name
    if name not in ONE_FILE:
        raise UserError(f"data_files with data_format={name}; allowed: data_format={', '.join(ONE_FILE)}")
    return name, {split: [file] for split, file in data_files.items()}


def example_of(splits: dict[str, list[str]]) -> str:
    names = [name for names in splits.values() for name in names]
    return f"{len(names)} files, such as {names[0]}" if len(names) > 1 else names[0]


def kinds_of(listing: Listing) -> str:
    """How many files of each suffix a folder has."""
    counts = Counter(posixpath.splitext(name)[1].lower() or "files without suffix" for name in listing.files)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(6)) or "no files"
