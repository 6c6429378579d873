"""The files of a data folder, listed once: their sizes and times, images by their names, and splits by name."""

import os
import posixpath
import re
import stat
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from backbones.errors import UserError, shorten
from backbones.image_files import is_hidden, suffixes_of
from backbones.images import upright_size
from backbones.reading import READING, Reading

ALL = "all"  # the split of data that name none
RUNS = "work_dirs"  # holds results of runs, and caches of data
WORDS = {
    "train": {"train", "training"},
    "val": {"val", "valid", "validation", "dev", "eval"},
    "test": {"test", "testing"},
}
THREADS = 8  # that read headers of images: waiting for a disk, not computing


class Listing:
    """All files below a folder. Linked folders are followed; hidden files, pipes and devices are left out.

    Args:
        root: the folder.
        reading: how a run reads images.

    Attributes:
        root, reading: as given.
        files: name -> (bytes, time of the last change in nanoseconds). A name is a path below ``root``, with ``/``.
        images: the names of images, sorted.

    Raises:
        UserError: there is no such folder, or the name of an image is no text.
    """

    def __init__(self, root: str | Path, reading: Reading = READING):
        self.root, self.reading = Path(root), reading
        if not self.root.is_dir():
            raise UserError(f"no data folder {root}; allowed: --data or data_root with a folder")
        self.files: dict[str, tuple[int, int]] = {}
        seen: set[str] = set()
        for parent, folders, names in os.walk(self.root, followlinks=True):
            real = os.path.realpath(parent)
            if real in seen:  # a link to a folder above
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not is_hidden(name) and name != RUNS)
            place = Path(parent).relative_to(self.root).as_posix()
            for name in sorted(names):
                try:
                    found = os.stat(os.path.join(parent, name))
                except OSError:  # a link to nothing
                    continue
                if not is_hidden(name) and stat.S_ISREG(found.st_mode):
                    self.files[name if place == "." else f"{place}/{name}"] = (found.st_size, found.st_mtime_ns)
        self.images = sorted(name for name in self.files if name.lower().endswith(suffixes_of(reading)))
        self.known = set(self.images)
        odd = [name for name in self.images if not is_text(name)]
        if odd:
            raise UserError(f"{self.root}: file names that are no text in UTF-8: {shorten(odd)}; allowed: UTF-8")
        self.by_name: dict[str, list[str]] | None = None
        self.by_stem: dict[str, list[str]] | None = None

    def path(self, name: str) -> Path:
        return self.root / name

    def named(self, *suffixes: str) -> list[str]:
        """The names with one of these suffixes, in lower case."""
        return sorted(name for name in self.files if name.lower().endswith(suffixes))

    def image(self, name: str, near: str = "", split: str | None = None) -> str | None:
        """The image that an annotation file means by a name; None if there is none.

        The name is looked up in the folder ``near``, then in the root, then anywhere. Of several images anywhere, those
        whose last folders are the name's are taken, then those of the split, then those nearest to ``near``. A name of
        Windows or an absolute one is looked up by its last part.

        Args:
            name: the name in the file.
            near: the folder of the annotation file, below the root.
            split: the split that the image belongs to.

        Raises:
            UserError: several images are left.
        """
        wanted = re.sub("^[a-zA-Z]:", "", name.replace("\\", "/"))
        for base in () if wanted.startswith("/") else (near, ""):
            path = posixpath.normpath(posixpath.join(base, wanted))
            if path in self.known:
                return path
        if self.by_name is None:
            self.by_name = by_key(self.images, posixpath.basename)
        return the_one(self.by_name.get(posixpath.basename(wanted), []), wanted, near, split, self.root)

    def image_of_stem(self, stem: str, near: str = "", split: str | None = None) -> str | None:
        """As :meth:`image`, for a name without suffix."""
        if self.by_stem is None:
            self.by_stem = by_key(self.images, lambda name: posixpath.splitext(posixpath.basename(name))[0])
        wanted = stem.replace("\\", "/")
        found = self.by_stem.get(posixpath.basename(wanted), [])
        beside = [name for name in found if posixpath.splitext(name)[0] == posixpath.join(near, wanted)]
        return the_one(beside or found, wanted, near, split, self.root)

    def sizes(self, names: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Width and height of images, as the run reads them. Images that cannot be read are absent."""

        def size(name: str) -> tuple[str, tuple[int, int] | None]:
            try:
                return name, upright_size(self.path(name), self.reading)
            except UserError:
                return name, None

        with ThreadPoolExecutor(THREADS) as pool:
            return {name: found for name, found in pool.map(size, names) if found}


def is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def by_key(names, key):
    found = defaultdict(list)
    for name in names:
        found[key(name)].append(name)
    return found


def the_one(found: list[str], wanted: str, near: str, split: str | None, root: Path) -> str | None:
    """The image that a name means, of those with its last part. See :meth:`Listing.image`."""
    if len(found) > 1:
        tail = wanted.lstrip("./")
        folders = posixpath.dirname(tail)
        found = [name for name in found if f"/{posixpath.dirname(name)}".endswith(f"/{folders}")] or found
    if len(found) > 1:
        found = [name for name in found if split_of_folder(name) == split] or found
    if len(found) > 1:
        shared = [len(posixpath.commonprefix([f"{near}/", name])) for name in found]
        found = [name for name, length in zip(found, shared) if length == max(shared)]
    if len(found) > 1:
        raise UserError(f"{root}: several images have the name {wanted}: {shorten(found)}; allowed: one of a name")
    return found[0] if found else None


def split_of(name: str) -> str | None:
    """The split, "train", "val" or "test", that a file names: in its own name, else in the nearest folder that does."""
    for part in reversed(name.split("/")):
        words = set(re.findall("[a-z]+", part.lower()))
        found = [split for split, known in WORDS.items() if words & known]
        if len(found) == 1:
            return found[0]
    return None


def split_of_folder(name: str) -> str | None:
    """As :func:`split_of`, by the folders alone: the image ``val/train_station.jpg`` is one of ``val``."""
    return split_of(posixpath.dirname(name))
