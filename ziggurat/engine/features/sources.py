"""Images to extract features from: files, and members of tar shards and tables. A store knows each by its name."""

import os
import tarfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backbones.errors import UserError
from backbones.image_files import files_below, images_below, suffixes_of
from backbones.images import SUFFIXES, read_pixels
from backbones.reading import Reading
from backbones.store.layout import to_text
from ziggurat.engine.addresses import Local
from ziggurat.engine.features.rows import ARROW, PARQUET, ArrowImage, RowImage, arrow_rows_of, rows_of
from ziggurat.engine.tar_end import check_end

TAR = ".tar"
MANY = (TAR, PARQUET, ARROW)  # files of many images
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")


class FileImage(NamedTuple):
    """An image file."""

    name: str
    path: str

    def pixels(self, reading: Reading) -> np.ndarray:
        """uint8 (H, W, C). UserError if it cannot be read."""
        return read_pixels(self.path, None, reading)


class TarImage(NamedTuple):
    """An image in a tar file: its bytes begin at ``start``."""

    name: str
    path: str
    start: int
    size: int

    def pixels(self, reading: Reading) -> np.ndarray:
        """As :meth:`FileImage.pixels`."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.start)
                content = file.read(self.size)
        except OSError as error:
            raise UserError(f"image cannot be read: {self.name} ({error.strerror})") from None
        return read_pixels(self.name, content, reading)


StoredImage = FileImage | TarImage | RowImage | ArrowImage


def images_of(given: Local, reading: Reading) -> list[StoredImage]:
    """The images of files, folders, tar shards and tables, each once, in the order in which they were given.

    A folder stands for the images, tar shards and tables below it. The name of an image is its path or address. In a
    tar shard it is ``shard.tar/key.jpg``, in a table such as ``file.parquet`` ``file.parquet/17``, with the number of
    the row. Tables are Parquet files, and Arrow files as the library ``datasets`` saves them.

    Raises:
        UserError: a folder has none, or a shard or table cannot be read to its end.
    """
    found = {}
    for path in files_of(given.paths, reading):
        text = str(path)
        if text.lower().endswith(COMPRESSED):
            raise UserError(f"{path} is compressed; allowed: plain .tar, since images are compressed already")
        if text.lower().endswith(MANY):
            images = inside(path)
        else:
            name = to_text(given.addresses.get(path, text))
            images = iter([FileImage(name, name if name == text else text)])
        for image in images:
            found.setdefault(image.name, image)
    return list(found.values())


def inside(path: Path) -> Iterator[StoredImage]:
    """The images of a tar shard, or of a table in Parquet or Arrow."""
    suffix = path.suffix.lower()
    return tar_images(path) if suffix == TAR else rows_of(path) if suffix == PARQUET else arrow_rows_of(path)


def files_of(given: Sequence[str], reading: Reading) -> Iterator[Path]:
    for path in map(Path, given):
        if path.is_dir():
            found = images_below(path, reading) + files_below(path, MANY)
            # The library ``datasets`` writes what it computes from a data set beside it.
            found = [one for one in found if not (one.suffix == ARROW and one.name.startswith("cache-"))]
            if not found:
                raise UserError(f"no images in {path}; readable: {', '.join((*suffixes_of(reading), *MANY))}")
            yield from found
        else:
            yield path


def tar_images(path: Path) -> Iterator[TarImage]:
    """The images of a tar file, such as a shard of WebDataset.

    Raises:
        UserError: there are none, or the file is absent, cut short or no tar file.
    """
    count = 0
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isreg()]
        check_end(path, members)
    except FileNotFoundError:
        raise UserError(f"no such shard: {path}") from None
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error.args[0] if error.args else error)
        raise UserError(f"shard cannot be read to its end: {path} ({reason})") from None
    for member in members:
        if member.name.lower().endswith(SUFFIXES):
            count += 1
            yield TarImage(to_text(f"{path}/{member.name}"), str(path), member.offset_data, member.size)
    if not count:
        raise UserError(f"no images in {path}; readable: {', '.join(SUFFIXES)}")


def image_named(name: str) -> StoredImage | None:
    """The image of a name that :func:`images_of` gave, if it is still there."""
    if os.path.isfile(name):
        return FileImage(name, name)
    for folder in Path(name).parents:
        if folder.is_file():
            return members_of(str(folder)).get(name)
    return None


@lru_cache(maxsize=8)
def members_of(path: str) -> dict[str, StoredImage]:
    """Name -> image, of a tar shard or a table; empty if it cannot be read."""
    try:
        return {image.name: image for image in inside(Path(path))}
    except UserError:
        return {}
