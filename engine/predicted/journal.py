"""The record of a folder of predictions: a line for each image that is done, and the settings of all of them.

A run that was stopped goes on where it stopped. What is there is replaced only where the user says so.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from backbones.errors import UserError, shorten, shown
from backbones.files import with_null, write_json
from backbones.image_files import output_stems
from engine.console import say_note
from engine.predicted.formats import FORMATS, RESERVED

LINES, SETTINGS, NAMES, LOCK = "predictions.jsonl", ".settings", ".names", ".lock"
OVERWRITE = "--overwrite"
ELSEWHERE = f"allowed: another --out, or {OVERWRITE}, which removes the predictions that are there"
MAPS = ("masks/{}.png", "panoptic/{}.png")  # are written whatever the formats are


class Done(NamedTuple):
    """An image that is recorded.

    Attributes:
        modified: when the image was changed last, in seconds of the system's clock; None where this is unknown.
        place: the first byte of its line.
    """

    modified: float | None
    place: int


class Todo(NamedTuple):
    """An image to predict on.

    Attributes:
        path: the file.
        name: its path or address, as lines have it.
        stem: the name of the files that are written for it, without suffix.
        modified: as in :class:`Done`.
    """

    path: Path
    name: str
    stem: str
    modified: float | None


class Journal:
    """The record of a folder, open for more images. One process at a time has it open.

    Each line of ``predictions.jsonl`` is the prediction of an image: ``image``, its path or address; ``file``, the name
    of its files in the folder; ``modified``, as in :class:`Done`; ``width`` and ``height``, in pixels; and what
    ``Predictor.describe`` gives.

    Args:
        out: the folder.
        settings: what the predictions depend on, in JSON's types. A run with equal settings goes on.
        overwrite: remove the predictions of earlier runs from the folder.

    Attributes:
        done: the images that are recorded, by path or address.
        stems: the name of the files of each image that this run or an earlier one began with, without suffix.

    Raises:
        UserError: the folder has predictions with other settings, another process has it open, or its record cannot be
            read.
    """

    def __init__(self, out: Path, settings: dict[str, Any], overwrite: bool = False):
        self.out, self.path = out, out / LINES
        self.lock = locked(out)
        self.stems = read_names(out / NAMES)
        self.done: dict[str, Done] = {}
        for place, row in self.lines():
            self.done[row["image"]] = Done(row["modified"], place)
            self.stems[row["image"]] = row["file"]
        if overwrite:
            self.clear()
        self.settle(json.loads(json.dumps(with_null(settings))))
        self.stream = self.path.open("ab")

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.lock.close()

    def add(self, row: dict[str, Any]) -> None:
        """Records an image whose files are written."""
        self.done[row["image"]] = Done(row["modified"], self.stream.tell())
        self.stream.write(json.dumps(with_null(row), allow_nan=False).encode() + b"\n")
        self.stream.flush()

    def rows(self) -> Iterator[dict[str, Any]]:
        """The lines of all images, in the order in which they were predicted. Of two of one image the last counts."""
        for place, row in self.lines():
            if self.done[row["image"]].place == place:
                yield row

    def lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each line and the place of its first byte. What follows the last whole line is cut off.

        Raises:
            UserError: a line is no record of an image.
        """
        if not self.path.exists():
            return
        place = 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    say_note(f"{self.path}: the last line was cut off; its image is predicted again")
                    with open(self.path, "r+b") as same:
                        same.truncate(place)
                    return
                yield place, self.parsed(line, number)
                place += len(line)

    def parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
            if isinstance(row["image"], str) and Path(row["file"]).name == row["file"] and "modified" in row:
                return row
        except (ValueError, KeyError, TypeError):
            pass
        raise UserError(f"{self.path}:{number} is no record of a prediction; allowed: another --out") from None

    def settle(self, settings: dict[str, Any]) -> None:
        """Writes the settings, or compares them with those of the predictions that are there."""
        path = self.out / SETTINGS
        if not self.done:
            write_json(path, settings)
            return
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            known = dict(there)
        except (OSError, ValueError, TypeError):
            raise UserError(f"{path} is absent or no JSON, and predictions are there; {ELSEWHERE}") from None
        for name in dict.fromkeys([*settings, *known]):
            if known.get(name) != settings.get(name):
                values = f"{name} {shown(known.get(name))}, and this run has {shown(settings.get(name))}"
                raise UserError(f"{self.out} has predictions with {values}; {ELSEWHERE}")

    def clear(self) -> None:
        """Removes the record, and the files that it names."""
        for stem in self.stems.values():
            for file in self.files_of([Todo(Path(), "", stem, None)], list(FORMATS)):
                file.unlink(missing_ok=True)
        for name in (LINES, NAMES):
            (self.out / name).unlink(missing_ok=True)
        self.done.clear()
        self.stems.clear()

    def still_to_do(self, paths: Sequence[Path], names: Sequence[str]) -> list[Todo]:
        """The images that are not recorded, or have changed since, which a note says.

        Args:
            paths: the image files.
            names: what lines call them.
        """
        todo = [(path, name, changed_at(path)) for path, name in zip(paths, names, strict=True)]
        todo = [one for one in todo if one[1] not in self.done or self.done[one[1]].modified != one[2]]
        changed = [name for _, name, _ in todo if name in self.done]
        if changed:
            say_note(f"predicted again, since these images have changed: {shorten(changed)}")
        new = [path for path, name, _ in todo if name not in self.stems]
        stems = iter(output_stems(new, RESERVED.union(self.stems.values())))
        return [Todo(path, name, self.stems.get(name) or next(stems), modified) for path, name, modified in todo]

    def files_of(self, images: Sequence[Todo], formats: Sequence[str]) -> list[Path]:
        """The files that are written for images."""
        forms = [file for word in formats for file in FORMATS[word].files if "{}" in file]
        forms = dict.fromkeys([*forms, *MAPS])
        return [self.out / form.format(image.stem) for image in images for form in forms]

    def begin(self, images: Sequence[Todo], formats: Sequence[str], overwrite: bool = False) -> None:
        """Keeps the names of the images' files for this run and later ones.

        Raises:
            UserError: a file would be written, is there, and is of no earlier run; unless it may be overwritten.
        """
        new = [image for image in images if image.name not in self.stems]
        if not overwrite:
            self.check_free(new, formats)
        with (self.out / NAMES).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps([image.name, image.stem]) + "\n" for image in new)
        self.stems |= {image.name: image.stem for image in new}

    def check_free(self, new: Sequence[Todo], formats: Sequence[str]) -> None:
        written = self.files_of(new, formats)
        if not self.stems:
            written += [self.out / file for word in formats for file in FORMATS[word].files if "{}" not in file]
        there = [str(path) for path in written if os.path.lexists(path)]
        if there:
            raise UserError(f"{shorten(there)}: there already, from elsewhere; allowed: another --out, or {OVERWRITE}")


def read_names(path: Path) -> dict[str, str]:
    """The names of files that earlier runs began with. A line that was cut off belongs to a run that wrote no file."""
    found = {}
    with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError):
                name, stem = json.loads(line)
                found |= {name: stem} if isinstance(stem, str) and Path(stem).name == stem else {}
    return found


def changed_at(path: Path) -> float | None:
    """When a file was changed last, in seconds of the system's clock; None for a file that is absent."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def locked(out: Path) -> IO[str]:
    """The folder's lock, which is held until it is closed or the process ends.

    Raises:
        UserError: another process holds the lock.
    """
    file = open(out / LOCK, "a")  # noqa: SIM115  stays open as long as the lock is held
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"--out {out} is in use by another tools/predict.py; allowed: another --out") from None
    return file
