"""The images of the page: samples, those of the command line, and those that the page was given."""

import hashlib
import io
import re
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from backbones import bands
from backbones.errors import UserError, shown
from backbones.images import START, read_image, read_pixels
from backbones.plain_files import check_whole
from backbones.reading import Reading
from ziggurat.engine.photographs import NAMES, photographs

MOST_KEPT = 16  # uploads; the oldest goes first
PLAIN = (128, 96), (160, 164, 170)  # size and colour of the thumbnail of what is no picture
UPLOAD = 64 * 2**20  # bytes of an upload at most


class Picture(NamedTuple):
    """An image file.

    Attributes:
        name: for people, and in the names of saved pictures.
        content: the file's bytes.
    """

    name: str
    content: bytes

    def pixels(self, reading: Reading) -> np.ndarray:
        """uint8 (H, W, C), by the rule of a network; UserError if the file cannot be read so."""
        return read_pixels(self.name, self.content, reading)

    @property
    def has_bands(self) -> bool:
        """Whether the file may have any number of channels, of which a picture is not made without a network."""
        start = self.content[:START]
        return bands.is_array(start) or bands.is_tiff(start)


class Pictures:
    """Images by their keys: ``sample-chelsea``, ``given-0``, and for uploads the start of the content's SHA-256.

    Args:
        given: files of the command line.

    Raises:
        UserError: one of them cannot be read.
    """

    def __init__(self, given: list[Path]):
        self.fixed = {f"given-{i}": picture_of(path) for i, path in enumerate(given)}
        for name, image in zip(NAMES, photographs()[0], strict=True):
            file = io.BytesIO()
            image.save(file, "PNG", compress_level=1)
            self.fixed[f"sample-{name}"] = Picture(f"{name}.png", file.getvalue())
        self.uploads: OrderedDict[str, Picture] = OrderedDict()

    def add(self, name: str, content: bytes) -> str:
        """The key of an upload. UserError if it is no image that a network can take."""
        if len(content) > UPLOAD:
            raise UserError(f"the file has {len(content)} bytes; allowed: up to {UPLOAD // 2**20} MiB")
        name = re.split(r"[/\\]", name)[-1] or "image"
        picture = Picture(name, content)
        if picture.has_bands:
            check_whole(name, content)
        else:
            read_image(name, content)
        key = hashlib.sha256(content).hexdigest()[:16]
        self.uploads[key] = picture
        self.uploads.move_to_end(key)
        while len(self.uploads) > MOST_KEPT:
            self.uploads.popitem(last=False)
        return key

    def __getitem__(self, key: object) -> Picture:
        found = isinstance(key, str) and (self.fixed.get(key) or self.uploads.get(key))
        if not found:
            raise UserError(f"image {shown(key)} is not here any more; choose it again")
        return found

    def listed(self) -> list[dict[str, str]]:
        """The key and the name of each image, those of the command line first."""
        return [{"key": key, "name": picture.name} for key, picture in (self.fixed | self.uploads).items()]


def picture_of(path: Path) -> Picture:
    read_image(path)
    return Picture(path.name, path.read_bytes())


def thumbnail(picture: Picture, side: int) -> Image.Image:
    """The picture in RGB, with sides up to ``side`` pixels; plain grey for channels that make no picture."""
    try:
        image = read_image(picture.name, picture.content)
    except UserError:
        if not picture.has_bands:
            raise
        image = Image.new("RGB", *PLAIN)
    image.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2)
    return image
