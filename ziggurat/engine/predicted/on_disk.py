"""Which files a folder of predictions has of an image or of a video."""

import contextlib
import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ziggurat.engine.predicted.book import Row, stem_of
from ziggurat.engine.predicted.formats import FORMATS, MAPS, OF_MAPS, maps_of_frames

FRAME = re.compile(r"frame_\d{6,}\.\w+")


def forms_of(formats: Iterable[str]) -> dict[bool, list[str]]:
    """What is written for an image, False, and a video, True, as in ``ziggurat.engine.predicted.formats.Format``."""
    words = [FORMATS[word] for word in formats]
    forms = {False: [file for one in words for file in one.files] + [*MAPS]}
    forms[True] = [file for one in words for file in one.of_videos]
    return {of_videos: [*dict.fromkeys(file for file in files if "{}" in file)] for of_videos, files in forms.items()}


def forms_of_all(formats: Iterable[str]) -> list[str]:
    """What is written for all images or all videos together."""
    forms = (file for word in formats for file in (*FORMATS[word].files, *FORMATS[word].of_videos))
    return [file for file in forms if "{}" not in file]


def paths_of(out: Path, form: str, stem: str) -> list[Path]:
    """The files of a form: the one that an image or video has, or those of frames that are there.

    Args:
        out: the folder.
        form: as in ``ziggurat.engine.predicted.formats.Format``.
        stem: the name of the files, without suffix.
    """
    if "*" not in form:
        return [out / form.format(stem)]
    found = out.glob(form.format(glob.escape(stem)))
    return sorted(path for path in found if FRAME.fullmatch(path.name))


def without_maps(out: Path, rows: Iterable[Row], kind: type | None, formats: Sequence[str]) -> set[str]:
    """The videos of which a frame lacks a map that a format needs.

    Args:
        out: the folder.
        rows: its lines.
        kind: the type of the results.
        formats: words of ``ziggurat.engine.predicted.formats.FORMATS``.
    """
    if set(formats).isdisjoint(OF_MAPS):
        return set()
    return {
        row["image"]
        for row in rows
        if "frame" in row and not has_files(out, stem_of(row), maps_of_frames("segments" in row, kind, formats))
    }


def has_files(out: Path, stem: str, forms: Iterable[str]) -> bool:
    return all(os.path.lexists(out / form.format(stem)) for form in forms)


def remove(out: Path, paths: Iterable[Path]) -> None:
    """Removes files of a folder that are there, and folders in the folder that are empty then."""
    folders = set()
    for path in paths:
        path.unlink(missing_ok=True)
        folders |= {folder for folder in path.parents if out in folder.parents}
    for folder in sorted(folders, reverse=True):  # the inner ones first
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
