"""The record of a folder of predictions: a line for each image that is done, and the settings of all of them.

A run that was stopped goes on where it stopped. What is there is replaced only where the user says so.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from backbones.errors import UserError, shorten
from backbones.files import replaced_file, write_json
from backbones.image_files import output_stems
from ziggurat.engine.console import say_note
from ziggurat.engine.predicted.formats import DRAWN, PICTURES, RESERVED, files_of_each
from ziggurat.engine.predicted.lines import as_line, whole_lines
from ziggurat.engine.predicted.on_disk import forms_of, forms_of_all, has_files, paths_of, remove, without_maps
from ziggurat.engine.predicted.run_files import BEGUN, LOCK, NAMES, locked, read_begun, read_names, remove_unfinished
from ziggurat.engine.predicted.settings import FILE, OVERWRITE, settle
from ziggurat.engine.videos import is_video

LINES = "predictions.jsonl"


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
    ``Predictor.describe`` gives. The line of a video's frame also has ``frame``, its index from 0, and ``time``, in
    seconds. After the last one the video has a line with ``frames``, the number of those that were predicted.

    Args:
        out: the folder.
        settings: what the predictions depend on, in JSON's types. A run with equal settings goes on.
        overwrite: remove the predictions of earlier runs from the folder.
        inputs: the images to predict on, none of which may be removed.

    Attributes:
        done: the images and whole videos that are recorded, by path or address.
        frames: of each video that has lines of frames, the first byte of its newest line of a first frame, and the
            index of its last frame.
        stems: the name of the files of each image that this run or an earlier one began with, without suffix.
        begun: the formats that this run or an earlier one began to write.

    Raises:
        UserError: the folder has predictions with other settings, another process has it open, its record cannot be
            read, or an input is one of its files.
    """

    def __init__(self, out: Path, settings: dict[str, Any], overwrite: bool = False, inputs: Sequence[Path] = ()):
        self.out, self.path = out, out / LINES
        is_locked_first = not (out / LOCK).exists()
        self.lock = locked(out)
        try:
            self.open(settings, overwrite, inputs)
        except UserError:  # refused: the folder is left as it was
            if is_locked_first:
                (out / LOCK).unlink()
            self.lock.close()
            raise

    def open(self, settings: dict[str, Any], overwrite: bool, inputs: Sequence[Path]) -> None:
        """Takes what is there; arguments and errors as for the class."""
        self.stems, self.begun = read_names(self.out / NAMES), read_begun(self.out / BEGUN)
        self.read()
        remove_unfinished(self.out, self.stems.values())
        if overwrite:
            self.clear(inputs)
        settle(self.out, settings, is_new=not self.done and not self.frames)
        self.stream = self.path.open("ab")

    def read(self) -> None:
        """Takes what the lines say into the attributes."""
        self.done: dict[str, Done] = {}
        self.frames: dict[str, tuple[int, int]] = {}
        self.has_outdated = False
        for place, row in whole_lines(self.path):
            self.note(row, place)
            self.stems[row["image"]] = row["file"]

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # of a line that could not be written, which add() has said
            self.stream.close()
        if not (self.begun or self.stems or self.path.stat().st_size):  # refused: the folder is left as it was
            for name in (LINES, FILE, LOCK):
                (self.out / name).unlink(missing_ok=True)
        self.lock.close()

    def add(self, row: dict[str, Any]) -> None:
        """Records an image whose files are written, a frame of a video, or a whole video."""
        self.note(row, self.stream.tell())
        try:
            self.stream.write(as_line(row))
            self.stream.flush()
        except OSError as error:
            error.filename = str(self.path)
            raise

    def note(self, row: dict[str, Any], place: int) -> None:
        """Takes a line into the attributes. A video is done when a line of its own follows those of its frames."""
        name = row["image"]
        if "frame" in row:
            first, last = self.frames.get(name, (place, -1))
            is_anew = row["frame"] <= last
            self.has_outdated |= is_anew
            self.frames[name] = (place if is_anew else first, row["frame"])
        else:
            self.has_outdated |= name in self.done
            self.done[name] = Done(row["modified"], place)

    def counts(self, row: dict[str, Any], place: int) -> bool:
        """Whether no later line replaces a line: of an image that has changed, or of a video that was begun anew."""
        if "frame" in row:
            return place >= self.frames[row["image"]][0]
        return self.done[row["image"]].place == place

    def tidy(self) -> None:
        """Removes the lines that later ones replace."""
        if not self.has_outdated:
            return
        with replaced_file(self.path) as beside, beside.open("wb") as file:
            file.writelines(as_line(row) for place, row in whole_lines(self.path) if self.counts(row, place))
        self.stream.close()
        self.read()
        self.stream = self.path.open("ab")

    def rows(self) -> Iterator[dict[str, Any]]:
        """The lines of all images and frames, in the order in which they were predicted. Of two of one the last counts.

        The frames of a video follow each other.
        """
        for place, row in whole_lines(self.path):
            if "frames" not in row and self.counts(row, place):
                yield row

    def clear(self, inputs: Sequence[Path]) -> None:
        """Removes the record, and the files that it names. UserError if an input is among these."""
        written = self.files_of(self.known(), self.begun)
        written += [self.out / form for form in forms_of_all(self.begun)]
        for path in sorted({*map(os.path.realpath, inputs)} & {*map(os.path.realpath, written)}):
            raise UserError(
                f"{OVERWRITE} would remove the input {path}, which an earlier run wrote; choose another --out"
            )
        remove(self.out, written)
        for name in (LINES, NAMES, BEGUN):
            (self.out / name).unlink(missing_ok=True)
        for known in (self.done, self.frames, self.stems, self.begun):
            known.clear()

    def still_to_do(
        self, paths: Sequence[Path], names: Sequence[str], kind: type | None = None, formats: Sequence[str] = ()
    ) -> list[Todo]:
        """The images that are not recorded, and those that have changed since or lack a file, which notes say.

        Args:
            paths: the image files.
            names: what lines call them.
            kind: the type of the results.
            formats: words of ``ziggurat.engine.predicted.formats.FORMATS``, whose files the images must have.
        """
        every = [(path, name, changed_at(path)) for path, name in zip(paths, names, strict=True)]
        changed = [one for one in every if one[1] in self.done and self.done[one[1]].modified != one[2]]
        forms = files_of_each(kind, formats)
        drawn = [DRAWN] if PICTURES in formats else []
        recorded = [one for one in every if one[1] in self.done]
        videos = {name for path, name, _ in recorded if is_video(path)}
        without = without_maps(self.out, self.rows() if videos else (), kind, formats) & videos
        lacking = [
            (path, name, modified)
            for path, name, modified in recorded
            if name in without or not has_files(self.out, self.stems[name], drawn if is_video(path) else forms)
        ]
        for cause, images in (("have changed", changed), ("lack a file", lacking)):
            if images:
                say_note(f"predicted again, since these images {cause}: {shorten(name for _, name, _ in images)}")
        again = {name for _, name, _ in changed + lacking}
        todo = [one for one in every if one[1] not in self.done or one[1] in again]
        new = [path for path, name, _ in todo if name not in self.stems]
        stems = iter(output_stems(new, RESERVED.union(self.stems.values())))
        return [Todo(path, name, self.stems.get(name) or next(stems), modified) for path, name, modified in todo]

    def known(self) -> list[Todo]:
        """The images and videos that this run or an earlier one began with."""
        return [Todo(Path(name), name, stem, None) for name, stem in self.stems.items()]

    def files_of(self, images: Iterable[Todo], formats: Iterable[str], but: Iterable[str] | None = None) -> list[Path]:
        """The files that formats have of images and videos, of frames those that are there.

        Files that the formats ``but`` have, too, are left out.
        """
        forms = forms_of(formats)
        if but is not None:
            known = forms_of(but)
            forms = {key: [form for form in files if form not in known[key]] for key, files in forms.items()}
        return [
            path
            for image in images
            for form in forms[is_video(image.path) or image.name in self.frames]
            for path in paths_of(self.out, form, image.stem)
        ]

    def begin(self, images: Sequence[Todo], formats: Sequence[str], overwrite: bool = False) -> None:
        """Keeps the names of the images' files for this run and later ones.

        Raises:
            UserError: a file would be written, is there, and is of no earlier run; unless it may be overwritten.
        """
        new = [image for image in images if image.name not in self.stems]
        if not overwrite:
            self.check_free(new, formats)
        self.begun |= dict.fromkeys(formats)
        write_json(self.out / BEGUN, list(self.begun))
        with (self.out / NAMES).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps([image.name, image.stem]) + "\n" for image in new)
        self.stems |= {image.name: image.stem for image in new}

    def check_free(self, new: Sequence[Todo], formats: Sequence[str]) -> None:
        written = self.files_of(new, formats) + self.files_of(self.known(), formats, but=self.begun)
        written += [self.out / form for form in forms_of_all(formats) if form not in forms_of_all(self.begun)]
        there = [str(path) for path in written if os.path.lexists(path)]
        if there:
            raise UserError(f"{shorten(there)}: there already, from elsewhere; allowed: another --out, or {OVERWRITE}")


def changed_at(path: Path) -> float | None:
    """When a file was changed last, in seconds of the system's clock; None for a file that is absent."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
