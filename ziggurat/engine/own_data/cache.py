"""The annotations of a data set in their one form, written once and read by all processes of all runs.

The cache of a folder has its name, with digits of its path. A file there has further digits in its name, of the sizes
and times of all files of the data and of the options. So changed data get new files, and a run that still uses the old
ones goes on. The caches may be deleted while no run uses them.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from backbones.errors import UserError
from backbones.files import locked, replaced_file
from backbones.reading import READING, Reading
from ziggurat.engine.console import say_note
from ziggurat.engine.own_data.content import Book, FlawedData, Notes, classes_of, content_of, line_of
from ziggurat.engine.own_data.found import READERS, find_format
from ziggurat.engine.own_data.listing import ALL, Listing
from ziggurat.engine.own_data.reading import no_garbage
from ziggurat.engine.own_data.split import SplitOptions, with_validation

FOLDER = "work_dirs/own_data"
VERSION = 1  # of what is written, so that another version's files are made anew


class OwnData(NamedTuple):
    """A data set, read.

    Attributes:
        root: its folder. The names of images are below it.
        format: a key of ``READERS``.
        files: split -> COCO json. The split "all" is that of data which name none.
        classes: the names, in the order of all files.
        notes: what was completed, turned or left out: dicts of ``what``, ``count`` and ``first``.
    """

    root: Path
    format: str
    files: dict[str, Path]
    classes: tuple[str, ...]
    notes: list[dict[str, Any]]


def prepare(
    root: str | Path,
    data_format: str = "auto",
    split: SplitOptions | None = None,
    data_files: Any = None,
    box_units: str | None = None,
    cache: str | Path = FOLDER,
    reading: Reading = READING,
) -> OwnData:
    """Reads a data set, or finds it in the cache.

    Args:
        root: its folder.
        data_format: a key of ``READERS``, or "auto".
        split: how to take validation images from data without any; None takes none.
        data_files: split -> annotation file, for formats of one file.
        box_units: "pixels" or "shares", for boxes in a CSV file.
        cache: the folder of all caches.
        reading: how the run reads images, which decides on their sizes.

    Raises:
        UserError: the data are absent or malformed, of no format or of several, or an option does not fit them.
    """
    listing = Listing(root, reading)
    name, splits = find_format(listing, data_format, data_files)
    place = place_of(listing, cache)
    list_file = place / split.file_name() if split else None
    options = dict(format=name, splits=splits, split=split and tuple(split), box_units=box_units)

    def make(index: Path) -> dict[str, Any]:
        notes = Notes()
        read, how = READERS[name].read, dict(box_units=box_units, val_group=split.group if split else "")
        try:
            books = read(listing, splits, how, notes)
        except UserError as error:
            flaws: list[str] = []
            with contextlib.suppress(UserError):  # what ends the reading as a whole is the first error
                read(listing, splits, how, Notes(flaws))
            raise FlawedData(flaws or [str(error)]) from None
        check_any(books, listing)
        if split:
            books = with_validation(books, split, list_file, listing.root)
        for key in [key for key, book in books.items() if not book.annotations]:
            notes.add("splits left out, which have no objects", key)
            del books[key]
        return write(index, name, books, notes)

    made = made_once(listing, place, options, list_file, make)
    files = {key: (place / file).resolve() for key, file in made["files"].items()}
    return OwnData(listing.root, name, files, tuple(made["classes"]), made["notes"])


def place_of(listing: Listing, cache: str | Path) -> Path:
    """The folder of a data set below the folder of all caches."""
    root = listing.root.resolve()
    return Path(cache) / f"{root.name}-{digits(str(root))}"


def made_once(
    listing: Listing, place: Path, options: Any, list_file: Path | None, make: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """The index of what was made of a data set with some options. One process makes it, and others wait.

    Args:
        listing: the data.
        place: the folder for what is made.
        options: the values that it depends on, beside the files of the data.
        list_file: a file that it depends on, too, and that ``make`` may write; None for none.
        make: writes the files beside the path of an index, whose name gives theirs their digits. It returns the index,
            a dict with the names of the files by split in ``files``, and with ``notes``.

    Raises:
        UserError: the folder cannot be written.
    """

    def index() -> Path:
        chosen = list_file.read_text() if list_file and list_file.is_file() else None
        return place / f"index-{digits(VERSION, listing.files, listing.reading, options, chosen)}.json"

    made = read_index(index())
    if made is not None:
        return made
    try:
        place.mkdir(parents=True, exist_ok=True)
        with locked(place / "reading", f"{place}: another process is reading the data"):
            made = read_index(index())
            if made is None:
                with no_garbage():
                    made = make(index())
                with replaced_file(index()) as beside:
                    beside.write_text(json.dumps(made))
                for note in made["notes"]:
                    say_note(f"{listing.root}: {line_of(note)}")
    except OSError as error:
        raise UserError(f"{place}: {error.strerror}; allowed: a folder that can be written") from None
    return made


def check_any(books: dict[str, Book], listing: Listing) -> None:
    """Raises UserError for data without an image or an object."""
    for what in ("images", "annotations"):
        if not any(getattr(book, what) for book in books.values()):
            raise UserError(f"{listing.root}: no {what} in it")


def write(index: Path, name: str, books: dict[str, Book], notes: Notes) -> dict[str, Any]:
    """Writes the file of each split, and returns the index that names them."""
    classes = classes_of(books.values())
    made = dict(format=name, classes=classes, notes=notes.as_list(), files={})
    tag = index.stem.removeprefix("index-")
    for split, book in books.items():
        info = dict(description=f"{split} images, read from {name}", notes=made["notes"])
        made["files"][split] = f"{split}-{tag}.json"
        with replaced_file(index.with_name(made["files"][split])) as beside:
            try:
                beside.write_text(json.dumps(content_of(book, classes, info), allow_nan=False))
            except ValueError:
                raise UserError(f"{odd_entry(book)}: a number is not finite; allowed: numbers") from None
    return made


def odd_entry(book: Book) -> str:
    """Where the first annotation is that JSON cannot hold."""
    for one in book.annotations:
        try:
            json.dumps(one, allow_nan=False)
        except ValueError:
            return one["source"]
    return "an image"


def read_index(path: Path) -> dict[str, Any] | None:
    """The index of a cache, if it is there with all its files."""
    try:
        made = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return made if all(path.with_name(file).is_file() for file in made["files"].values()) else None


def digits(*parts: Any) -> str:
    """Ten digits that stand for values of any kind."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()[:10]


def file_for(files: dict[str, Path], split: str) -> Path:
    """The file that serves for a split: its own, else that of the split nearest to it."""
    order = {"train": ("train", ALL, "val", "test"), "val": ("val", "test", ALL, "train")}
    order["test"] = ("test", "val", ALL, "train")
    return next(files[name] for name in order[split] if name in files)
