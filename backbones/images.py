"""Reading images by one rule, for all tasks, in training, prediction and feature extraction."""

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from backbones.errors import UserError, shown
from backbones.files import PatientFile

ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}  # first bytes of a JPEG or PNG -> the mark at its end
START_OF_SCAN = 0xDA  # the marker of a JPEG that the coded pixels follow
# Marker of a JPEG's kind -> the markers that end its scans. Those of a progressive one have tables between them.
FRAMES = {
    0xC0: re.compile(rb"\xff[^\x00\xd0-\xd7]"),
    0xC1: re.compile(rb"\xff[^\x00\xd0-\xd7]"),
    0xC2: re.compile(rb"\xff[^\x00\xd0-\xd7\xc4\xda]"),
}
TAIL = 4096  # bytes at the end that are searched for the mark: some cameras append records of their own
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Pillow's names of the formats that are read. Others of its plugins start programs, as EPS does.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes with one colour
SLACK = 1e-3  # tolerance for float images outside 0..1, by rounding


def read_image(path: str | Path, content: bytes | None = None, channels: int = 3) -> Image.Image:
    """Reads a whole image as 8-bit RGB, upright as its EXIF data says. A file of several frames gives its first.

    8-bit values stay as they are. A 16-bit value gives its high byte, as in OpenCV and in Pillow's colour images. A
    float must be 0 to 1, and becomes 0 to 255. Alpha is dropped.

    Args:
        path: the file.
        content: the file's bytes, if they are read already. ``path`` is then only a name for messages.
        channels: 3 for RGB, or another number by the rule of :func:`to_channels`.

    Raises:
        UserError: the file is absent, no image or cut off; it has more than 179 megapixels, which is 2 *
            ``PIL.Image.MAX_IMAGE_PIXELS``; it holds floats outside 0..1, or 32-bit integers. The message names the
            file.
    """
    with opened(path, content) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return to_channels(image, channels, str(path))


def upright_size(path: str | Path) -> tuple[int, int]:
    """Width and height of the image that :func:`read_image` gives. Only PNG is decoded, where EXIF data may come last.

    Raises:
        UserError: the file is absent, no image, or a PNG that is cut off.
    """
    with opened(path) as image:
        width, height = image.size
        is_turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)  # by a quarter; other values turn nothing
        return (height, width) if is_turned else (width, height)


def orientation_of(path: str | Path) -> int:
    """The EXIF orientation of an image file, 1 to 8; 1, upright, for a file without one. Raises as ``upright_size``."""
    with opened(path) as image:
        return image.getexif().get(ORIENTATION, 1)


def to_channels(image: Image.Image, channels: int, name: str) -> Image.Image:
    """A PIL image of any mode in 8 bits with a number of channels: 1 is grey, 3 is RGB, 4 is RGBA or CMYK as stored.

    Args:
        image: the image. Its palette is resolved.
        channels: the number of channels.
        name: the image's name in messages.

    Raises:
        UserError: the image has no form of so many channels, or its values are outside the range of its type.
    """
    if channels == 1:
        rgb = to_rgb(image, name)
        return rgb.convert("L") if image.mode not in GREY else rgb.getchannel(0)
    if channels == 4 and image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if channels == 4 and image.mode in ("RGBA", "CMYK"):
        return image
    if channels == 3:
        return to_rgb(image, name)
    allowed = "mode RGBA or CMYK, an array (H, W, 4)" if channels == 4 else f"an array (H, W, {channels})"
    allowed += f" or a tensor ({channels}, H, W), for a network of {channels} channels"
    raise UserError(f"{name} is an image of mode {image.mode}; allowed: {allowed}")


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A PIL image of any mode as 8-bit RGB, by the rule of :func:`read_image`; ``name`` is for the message."""
    mode, is_16_bit = image.mode, image.format in ("PNG", "PPM")  # Pillow may open their 16 bits as mode "I", 32 bits
    if mode.startswith("I;16") or (mode == "I" and is_16_bit):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    elif mode == "I":
        raise UserError(f"{name}: 32-bit integers, whose range is not known; allowed: 8 or 16 bits, or floats 0 to 1")
    elif mode == "F":
        values = known_range(torch.from_numpy(np.array(image)), name)
        image = Image.fromarray((values * 255).round().clamp(0, 255).to(torch.uint8).numpy())
    return image if image.mode == "RGB" else image.convert("RGB")


def check_dense(image: Tensor, name: str) -> None:
    """Raises UserError for a tensor without values, or whose values are not in one block of memory."""
    if image.is_meta or image.is_nested or image.is_quantized or image.layout != torch.strided:
        others = "nested" if image.is_nested else "quantized" if image.is_quantized else image.layout
        kind = "on the meta device and has no values" if image.is_meta else others
        raise UserError(f"{name} is {kind}; allowed: a dense tensor with values")


def known_range(image: Tensor, name: str) -> Tensor:
    """Pixel values in memory as integers 0..255 or floats 0..1, by the rule of :func:`read_image`.

    Args:
        image: of any shape. uint16 gives the high byte, as int32. Other types come back as they are.
        name: the image's name in messages.

    Raises:
        UserError: floats are outside 0..1 or not finite, integers are outside 0..255, or the type is bool or complex.
    """
    if image.dtype == torch.uint8 or not image.numel():
        return image
    if image.dtype == torch.uint16:
        return image.to(torch.int32) >> 8
    if image.dtype == torch.bool or image.is_complex():
        raise UserError(f"{name} has values of type {image.dtype}; allowed: integers or floats")
    low, high = (float(value) for value in (image if image.is_floating_point() else image.double()).aminmax())
    top, slack = (1, SLACK) if image.is_floating_point() else (255, 0)
    if not (low >= -slack and high <= top + slack):
        raise UserError(
            f"{name}: {str(image.dtype).removeprefix('torch.')} values from {low:g} to {high:g}; "
            "allowed: floats 0 to 1, integers 0 to 255, uint16 0 to 65535"
        )
    return image


@contextlib.contextmanager
def opened(path: str | Path, content: bytes | None = None, what: str = "image") -> Iterator[Image.Image]:
    """The file as a PIL image that is not decoded yet. Any error inside the block becomes a UserError.

    Args:
        path, content: as for :func:`read_image`.
        what: "image" or "mask", for the message.
    """
    if content is None:
        check_is_file(path, what)
    try:
        file = io.BufferedReader(PatientFile(path)) if content is None else io.BytesIO(content)
        with file, Image.open(file, formats=FORMATS) as image:
            yield image
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"no such {what}: {path}") from None
    except IsADirectoryError:
        raise UserError(f"no {what} but a folder: {path}") from None
    except Image.DecompressionBombError:
        limit = f"{2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} megapixels"
        raise UserError(f"{what} has too many pixels: {path}; allowed: up to {limit}; cut it into parts") from None
    except UnidentifiedImageError:
        kinds = f"{', '.join(SUFFIXES)}, of 8 or 16 bits a channel or with one channel of floats"
        raise UserError(f"not an image that can be read: {path}; readable: {kinds}") from None
    except Exception as error:  # each format raises other kinds of errors for broken bytes
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


def is_plain(path: str | Path, content: bytes) -> bool:
    """Whether the bytes are a whole, upright 8-bit JPEG or PNG in RGB or grey.

    OpenCV and Pillow decode such a file to equal pixels.

    Raises:
        UserError: the bytes are no image, or the image is too large, as for :func:`read_image`.
    """
    tail = content[-TAIL:]
    with opened(path, content) as image:
        if not is_whole(content[:8], tail) or image.mode not in ("RGB", "L"):
            return False
        if image.format == "JPEG":
            return image.getexif().get(ORIENTATION, 1) == 1 and are_scans_whole(content)
        # PNG's bit depth is its byte 24. EXIF data may stand before the pixels or after them.
        extras = {"exif", "transparency"} & set(image.info) or b"eXIf" in tail
        return image.format == "PNG" and content[24] == 8 and not extras


def are_scans_whole(content: bytes) -> bool:
    """Whether the scans of a JPEG go on to its last byte, and hold no other marker than theirs.

    At other markers, which damaged bytes may look like, Pillow stops with an error, and OpenCV goes on.
    """
    at, frame = 2, None
    while content[at : at + 1] == b"\xff" and at + 4 <= len(content):
        kind, at = content[at + 1], at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        frame = FRAMES.get(kind, frame)
        if kind == START_OF_SCAN and frame is not None:
            other = frame.search(content, at)
            return other is not None and other.start() == len(content) - 2 and other[0] == b"\xff\xd9"
    return False


def check_image(path: str | Path) -> None:
    """Raises UserError for a file that is absent, not an image, or cut off. The message names the file.

    JPEG and PNG files that have their end mark are not decoded, so the check is fast.
    """
    check_is_file(path)
    try:
        with io.BufferedReader(PatientFile(path)) as file:
            start = file.read(8)
            file.seek(-min(file.seek(0, 2), TAIL), 2)
            tail = file.read()
    except OSError:
        start = tail = b""
    if not is_whole(start, tail):
        with opened(path) as image:
            image.load()


def is_whole(start: bytes, tail: bytes) -> bool:
    """Whether a file's first and last bytes belong to a JPEG or PNG that is not cut off."""
    end = next((end for magic, end in ENDS.items() if start.startswith(magic)), None)
    return end is not None and end in tail
