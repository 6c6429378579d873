"""Reading images by one rule, for all tasks, in training, prediction and feature extraction."""

import contextlib
import errno
import io
import mmap
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from backbones import bands
from backbones.errors import Notice, UserError, shown
from backbones.files import PatientFile
from backbones.pixel_limit import decoding_up_to, too_many_pixels
from backbones.pixels import AS_STORED, picture, to_channels
from backbones.reading import READING, Reading

# Suffix -> Pillow's names of the formats that are read. Others of its plugins start programs, as EPS does.
FORMATS_BY_SUFFIX = {
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"): ("JPEG",),
    (".png", ".apng"): ("PNG",),
    (".bmp",): ("BMP",),
    (".webp",): ("WEBP",),
    (".tif", ".tiff"): ("TIFF",),
    (".gif",): ("GIF",),
    (".ppm", ".pgm", ".pbm", ".pnm"): ("PPM",),
    (".jp2", ".j2k", ".jpx"): ("JPEG2000",),
    (".avif",): ("AVIF",),
    (".heic", ".heif"): (),  # pillow-heif adds the format
}
SUFFIXES = tuple(suffix for suffixes in FORMATS_BY_SUFFIX for suffix in suffixes)
ARRAY_SUFFIXES = (".npy", ".npz")
FORMATS = tuple(name for names in FORMATS_BY_SUFFIX.values() for name in names)
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
# An orientation -> what undoes its turn.
TURNS_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
START = 12  # bytes of a file that tell its kind
# Whether it has been said that a file has several frames. Workers of a data loader, which are forked, share the byte.
FRAMES_SAID = mmap.mmap(-1, 1)


def read_image(path: str | Path, content: bytes | None = None, reading: Reading = READING) -> Image.Image:
    """Reads a whole image as 8-bit RGB, for a network of three channels and for people.

    A file of several frames or pages gives the first one. A Notice says so, once. A JPEG that Pillow decodes to its end
    is read as Pillow reads it, with damaged bytes too; a cut-off one is refused. If the rule's channels are not 3, the
    picture shows the first three of them, or the first as grey.

    Args:
        path: the file.
        content: the file's bytes, if they are read already. ``path`` is then only a name for messages.
        reading: the rule. The default keeps 8-bit values, takes the high byte of 16 bits and floats from 0 to 1, drops
            alpha, and turns photographs upright.

    Raises:
        UserError: the file is absent, no image or cut off; it has more than the rule's ``max_pixels``; its values are
            outside the rule's range, or it has none of the forms with the rule's channels. The message names the file.
    """
    found = read(path, content, reading)
    if isinstance(found, np.ndarray):
        return picture(found)
    return found if found.mode == "RGB" else found.convert("RGB")


def read_pixels(path: str | Path, content: bytes | None = None, reading: Reading = READING) -> np.ndarray:
    """Reads a whole image as uint8 (H, W, C), C being the rule's channels; arguments and errors as :func:`read_image`.

    With three channels the pixels are those of :func:`read_image`.
    """
    return as_pixels(read(path, content, reading))


def as_pixels(image: Image.Image | np.ndarray) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def read(path: str | Path, content: bytes | None, reading: Reading) -> Image.Image | np.ndarray:
    """An image with the rule's channels, as Pillow gives it or as an array uint8 (H, W, C)."""
    name = str(path)
    with decoding_up_to(reading.max_pixels), streamed(path, content) as file:
        start = file.read(START)
        file.seek(0)
        if bands.is_array(start):
            return with_channels(bands.read_array(file, reading, name), reading, name)
        try:
            with by_pillow(file, path) as image:
                stored = reading.is_picture or image.mode in AS_STORED.get(reading.channels, ())
                is_left = bands.is_tiff(start) and not stored
                is_deep = reading.value_range is not None and bands.is_deep_colour(image, file, name)
                if not is_left and not (is_deep and image.format == "TIFF"):
                    say_frames(image, name)
                    turn_back = None if reading.upright else TURNS_BACK.get(turned_by_pillow(image))
                    image.load()
                    if is_deep:
                        file.seek(0)
                        image = same_info(bands.as_picture(bands.read_deep_png(file.read(), reading)), image)
                    if reading.upright:
                        ImageOps.exif_transpose(image, in_place=True)
                    found = to_channels(image, reading, name)
                    return found if turn_back is None else found.transpose(turn_back)
        except UnidentifiedImageError:
            if not bands.is_tiff(start):
                raise
        file.seek(0)
        return with_channels(bands.read_tiff(file, reading, name), reading, name)


def turned_by_pillow(image: Image.Image) -> int:
    """The orientation by which Pillow itself turns an image when it decodes it: that of TIFF. Else 1, for upright."""
    return image.tag_v2.get(ORIENTATION, 1) if image.format == "TIFF" else 1


def with_channels(pixels: np.ndarray, reading: Reading, name: str) -> Image.Image | np.ndarray:
    """Pixels of an array as a picture of the rule's channels, or unchanged if the rule has other channels."""
    return to_channels(bands.as_picture(pixels), reading, name) if reading.is_picture else pixels


def same_info(image: Image.Image, other: Image.Image) -> Image.Image:
    """``image`` with the EXIF data of ``other``."""
    image.info["exif"] = other.getexif().tobytes()
    return image


def upright_size(path: str | Path, reading: Reading = READING) -> tuple[int, int]:
    """Width and height of the image that :func:`read_pixels` gives. Few formats are decoded for it.

    These are PNG, where EXIF data may come last, NumPy files, and TIFF that Pillow does not read.

    Raises:
        UserError: the file is absent, no image, or one of these formats and cut off.
    """
    with decoding_up_to(reading.max_pixels), streamed(path) as file:
        start = file.read(START)
        file.seek(0)
        if not bands.is_array(start) and (reading.is_picture or not bands.is_tiff(start)):
            with contextlib.suppress(UnidentifiedImageError), by_pillow(file, path) as image:
                width, height = image.size
                by_a_quarter = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
                is_turned = turned_by_pillow(image) != 1
                return (height, width) if by_a_quarter and is_turned != reading.upright else (width, height)
    height, width = read_pixels(path, None, reading).shape[:2]
    return width, height


def orientation_of(path: str | Path) -> int:
    """The EXIF orientation of an image file, 1 to 8; 1, upright, for a file without one. Raises as ``upright_size``."""
    with opened(path) as image:
        return image.getexif().get(ORIENTATION, 1)


@contextlib.contextmanager
def opened(path: str | Path, content: bytes | None = None, what: str = "image") -> Iterator[Image.Image]:
    """The file as a PIL image that is not decoded yet. Any error inside the block becomes a UserError.

    Args:
        path, content: as for :func:`read_image`.
        what: "image" or "mask", for the message.
    """
    with streamed(path, content, what) as file, by_pillow(file, path, what) as image:
        yield image


def by_pillow(file: BinaryIO, path: str | Path, what: str = "image") -> Image.Image:
    """The file opened by Pillow.

    Raises:
        UnidentifiedImageError: Pillow does not read it.
        UserError: it is empty, or HEIC without pillow-heif.
    """
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        start = file.read(START)
        file.seek(0)
        if not start:
            raise UserError(f"{what} is empty: {path}") from None
        if start[4:8] != b"ftyp" or start[8:12] not in HEIF_BRANDS:
            raise
    try:
        import pillow_heif
    except ImportError:
        raise UserError(f"{what} is HEIC, which pillow-heif reads: {path}; pip install pillow-heif") from None
    pillow_heif.register_heif_opener()
    return Image.open(file, formats=("HEIF",))


def say_frames(image: Image.Image, name: str) -> None:
    """Says of the first file of several frames that its first one is taken. JPEGs of phones are one picture."""
    if not FRAMES_SAID[0] and image.format not in ("JPEG", "MPO") and getattr(image, "is_animated", False):
        FRAMES_SAID[0] = 1
        what = f"{name} has {getattr(image, 'n_frames', 'several')} frames or pages"
        warnings.warn(Notice(f"{what}; of such files the first is taken (said once)"), stacklevel=2)


@contextlib.contextmanager
def streamed(path: str | Path, content: bytes | None = None, what: str = "image") -> Iterator[BinaryIO]:
    """The file, open for reading. Any error inside the block becomes a UserError; arguments as for :func:`opened`."""
    if content is None:
        check_is_file(path, what)
    try:
        with io.BufferedReader(PatientFile(path)) if content is None else io.BytesIO(content) as file:
            yield file
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"no such {what}: {path}") from None
    except IsADirectoryError:
        raise UserError(f"no {what} but a folder: {path}") from None
    except PermissionError:
        raise UserError(f"no permission to read the {what} {path}") from None
    except Image.DecompressionBombError:
        raise UserError(too_many_pixels(what, path)) from None
    except UnidentifiedImageError:
        kinds = f"{', '.join(SUFFIXES)}, of 8 or 16 bits a channel or of floats"
        raise UserError(f"not an image that can be read: {path}; readable: {kinds}") from None
    except Exception as error:  # each format raises other kinds of errors for broken bytes
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            raise UserError(f"no {what} but a link that leads to itself: {path}") from None
        raise UserError(f"{what} cannot be read to its end: {path} ({error or type(error).__name__})") from None


def check_is_file(path: str | Path, what: str = "image") -> None:
    """Raises UserError for no path, and for a pipe or a device, which may have no end. An absent file passes."""
    if not isinstance(path, str | Path):
        raise UserError(f"{what} is {shown(path)}; allowed: the path of a file")
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise UserError(f"no {what} but a pipe or a device: {path}")
