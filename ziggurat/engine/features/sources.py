"""Images to extract features from: files, and members of tar shards. Each has a name, by which a store knows it."""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backbones.errors import UserError
from backbones.image_files import files_below, images_below, suffixes_of
from backbones.images import SUFFIXES, read_pixels
from backbones.reading import Reading
from backbones.store.layout import to_text
from ziggurat.engine.addresses import Local
from ziggurat.engine.features.rows import PARQUET, RowImage, rows_of
from ziggurat.engine.tar_end import check_end

TAR = ".tar"
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


StoredImage = FileImage | TarImage | RowImage


def images_of(given: Local, reading: Reading) -> list[StoredImage]:
    """The images of files, folders, tar shards and Parquet files, each once, in the order in which they were given.

    A folder stands for the images, tar shards and Parquet files below it. The name of an image is its path or address.
    In a tar shard it is ``shard.tar/key.jpg``, in a Parquet file ``file.parquet/17``, with the number of the row.

    Raises:
        UserError: a folder has none, or a shard or Parquet file cannot be read to its end.
    """
    found = {}
    for path in files_of(given.paths, reading):
        text = str(path)
        if text.lower().endswith(COMPRESSED):
            raise UserError(f"{path} is compressed; allowed: plain .tar, since images are compressed already")
        if text.lower().endswith(TAR):
            images: Iterator[StoredImage] = tar_images(path)
        elif text.lower().endswith(PARQUET):
            images = rows_of(path)
        else:
            name = to_text(given.addresses.get(path, text))
            images = iter([FileImage(name, name if name == text else text)])
        for image in images:
            found.setdefault(image.name, image)
    return list(found.values())


def files_of(given: Sequence[str], reading: Reading) -> Iterator[Path]:
    for path in map(Path, given):
        if path.is_dir():
            inside = images_below(path, reading) + files_below(path, (TAR, PARQUET))
            if not inside:
                raise UserError(f"no images in {path}; readable: {', '.join((*suffixes_of(reading), TAR, PARQUET))}")
            yield from inside
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
