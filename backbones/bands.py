"""Bands of files that Pillow does not read as they are: NumPy files, TIFF of any channels, colour of 16 bits or floats.

Three rules hold for every such file:

- One array of height, width and channels. The channels are the last axis if it has as many as wanted, else the first.
- The values become 8 bits a channel by the rule of a :class:`Reading`.
- Files of integers other than uint8 and uint16 need a ``value_range``, since their range is not known.
"""

import io
import logging
import math
import zipfile
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from backbones.errors import UserError
from backbones.pixels import as_8_bits
from backbones.reading import Reading

NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"
TIFFS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
KINDS = "uint8, uint16, floats"
PICTURE, WITH_ALPHA = (3, 1), (3, 4, 1, 2)  # numbers of channels that a picture can have
RGB = 2  # TIFF's photometric interpretation, of which further channels are alpha
SIZ = b"\xff\x4f\xff\x51"  # the start of JPEG 2000's pixels; the bits of a channel follow at byte 42


def is_array(start: bytes) -> bool:
    """Whether a file that begins so is one of NumPy's."""
    return start.startswith((NPY, ZIP))


def is_tiff(start: bytes) -> bool:
    return start.startswith(TIFFS)


def read_array(file: BinaryIO, reading: Reading, name: str) -> np.ndarray:
    """The pixels of a .npy file, or of a .npz file with one array: uint8 (H, W, C).

    Nothing in the file is run: arrays of Python's objects are refused.

    Args:
        file: at its start.
        reading: the rule. Of a picture C is 1 to 4, else the rule's number.
        name: the file's name in messages.

    Raises:
        UserError: there is not one array, or its shape, its type or its values are not allowed.
    """
    return pixels_of(stored_array(file, reading, name), counts_of(reading), reading, name)


def stored_array(file: BinaryIO, reading: Reading, name: str) -> np.ndarray:
    """The array of :func:`read_array` as stored, (H, W) or with any number of channels, first or last."""
    if file.read(len(NPY)) == NPY:
        file.seek(0)
        return read_npy(file, reading, name)
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        inside = archive.namelist()
        if len(inside) != 1:
            raise UserError(f"{name} holds {len(inside)} arrays; allowed: one")
        with archive.open(inside[0]) as entry:
            return read_npy(entry, reading, name)


def counts_of(reading: Reading, has_alpha: bool = False) -> tuple[int, ...]:
    """The numbers of channels that a file may have for a rule."""
    return (WITH_ALPHA if has_alpha else PICTURE) if reading.is_picture else (reading.channels,)


def read_npy(file: BinaryIO, reading: Reading, name: str) -> np.ndarray:
    """The array of a .npy file. Its header is checked before memory is taken for the values."""
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise UserError(f"{name} is of NumPy's format {version}; allowed: 1.0, 2.0")
    shape, is_transposed, kind = readers[version](file)
    if kind.hasobject:
        raise UserError(f"{name} holds Python's objects; allowed: {KINDS}")
    check_shape(shape, kind, counts_of(reading), name)
    content = file.read(math.prod(shape) * kind.itemsize)
    values = np.frombuffer(content, kind)
    return values.reshape(shape, order="F" if is_transposed else "C")


def read_tiff(file: BinaryIO, reading: Reading, name: str) -> np.ndarray:
    """The first image of a TIFF file as stored: uint8 (H, W, C). Pages of one size and one channel are channels.

    Arguments and errors: as :func:`read_array`.
    """
    values, has_alpha, orientation = stored_tiff(file, reading, name)
    pixels = pixels_of(values, counts_of(reading, has_alpha), reading, name)
    return turned(pixels, orientation) if reading.upright else pixels


def stored_tiff(file: BinaryIO, reading: Reading, name: str) -> tuple[np.ndarray, bool, int]:
    """The values of :func:`read_tiff` with any number of channels, whether one may be alpha, and the orientation."""
    try:
        import tifffile
    except ImportError:
        needs = f"{name} needs tifffile, which reads any number and type of channels"
        raise UserError(f"{needs}: pip install tifffile") from None
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # the error says what is wrong
    with tifffile.TiffFile(file) as opened:
        first, pages = opened.series[0], [opened.series[0]]
        if len(opened.series) == reading.channels and {page.shape for page in opened.series} == {first.shape}:
            pages = opened.series if len(first.shape) == 2 else pages
        has_alpha = first.keyframe.photometric == RGB
        check_shape(first.shape, first.dtype, counts_of(reading, has_alpha), name)
        try:
            values = np.stack([page.asarray() for page in pages], 2) if len(pages) > 1 else first.asarray()
        except ValueError as error:
            if "COMPRESSION" not in str(error):
                raise
            method = first.keyframe.compression.name
            cure = "pip install imagecodecs" if "imagecodecs" in str(error) else "allowed: no compression, DEFLATE"
            raise UserError(f"{name} is compressed by {method}; {cure}") from None
        orientation = first.keyframe.tags.get("Orientation")
    return values, has_alpha, orientation.value if orientation else 1


def read_deep_png(content: bytes, reading: Reading) -> np.ndarray:
    """The pixels of a PNG file of 16 bits in grey and alpha, RGB or RGBA, with a ``value_range``: uint8 (H, W, C).

    Pillow keeps the first byte of each value. It keeps the second byte if the file is called little-endian, and both of
    grey and alpha if the four bytes are called RGBA.
    """
    with Image.open(io.BytesIO(content), formats=("PNG",)) as first:
        if first.tile[0].args == "LA;16B":  # which Pillow makes RGBA
            values = np.asarray(decoded_as(first, "RGBA")).view(">u2")
        else:
            with Image.open(io.BytesIO(content), formats=("PNG",)) as second:
                low = np.asarray(decoded_as(second, f"{second.mode};16L"))
            values = (np.asarray(first).astype(np.uint16) << 8) | low
    return pixels_of(values, WITH_ALPHA, reading, "")


def decoded_as(image: Image.Image, form: str) -> Image.Image:
    """An image that is not decoded yet, whose bytes Pillow will take for those of a raw mode."""
    image.tile = [part._replace(args=form) for part in image.tile]
    return image


def pixels_of(values: np.ndarray, counts: Sequence[int], reading: Reading, name: str) -> np.ndarray:
    """An array of an image as uint8 (H, W, C). The alpha channel of a picture has the range of its type."""
    values = arranged(values, counts, name)
    kind = values.dtype
    if reading.value_range is None and (kind.kind == "i" or (kind.kind == "u" and kind.itemsize > 2)):
        raise UserError(
            f"{name}: values of type {kind}, whose range is not known; allowed: {KINDS}, or a range, as in "
            "reading.value_range=[0,4095]"
        )
    count = values.shape[2]
    if reading.is_picture and count in (2, 4):
        plain = reading._replace(value_range=None)
        colour, alpha = as_8_bits(values[..., :-1], name, reading), as_8_bits(values[..., -1:], name, plain)
        return np.concatenate([colour, alpha], 2)
    return as_8_bits(values, name, reading)


def arranged(values: np.ndarray, counts: Sequence[int], name: str) -> np.ndarray:
    """An array with its channels last: (H, W, C).

    Args:
        values: (H, W, C), (C, H, W), or (H, W) for one channel.
        counts: the allowed numbers of channels.
        name: for the message.
    """
    if values.ndim == 2 and 1 in counts:
        return values[..., None]
    if values.ndim == 3 and values.shape[2] in counts:
        return values
    if values.ndim == 3 and values.shape[0] in counts:
        return np.moveaxis(values, 0, 2)
    raise wrong_shape(values.shape, counts, name)


def wrong_shape(shape: Sequence[int], counts: Sequence[int], name: str) -> UserError:
    many = shape[-1] if len(shape) == 3 and shape[-1] < shape[0] else shape[0] if len(shape) == 3 else None
    wanted = f"(H, W, {counts[0]}) or ({counts[0]}, H, W)" + (", or (H, W) for grey" if 1 in counts else "")
    hint = "" if many in (None, *counts) else f"; model.backbone.in_chans={many} takes {many} channels"
    return UserError(f"{name} has shape {tuple(shape)}; allowed: {wanted}{hint}")


def check_shape(shape: Sequence[int], kind: np.dtype, counts: Sequence[int], name: str) -> None:
    """Raises UserError for a shape that is no image's, and DecompressionBombError for more pixels than Pillow takes."""
    if len(shape) not in (2, 3) or not all(shape) or kind.kind not in "uif":
        raise wrong_shape(shape, counts, name) if kind.kind in "uif" else UserError(f"{name}: {kind}; allowed: {KINDS}")
    if math.prod(shape) > 2 * (Image.MAX_IMAGE_PIXELS or math.inf) * max(counts):
        raise Image.DecompressionBombError


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, C) upright. ``orientation`` is EXIF's number; others than 2 to 8 turn nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def is_deep_colour(image: Image.Image, file: BinaryIO, name: str) -> bool:
    """Whether a file that Pillow has opened holds colour of more than 8 bits a channel, of which Pillow keeps 8.

    Raises:
        UserError: the file is PPM or JPEG 2000 of more than 8 bits, to whose values no range can be given.
    """
    tile = image.tile[0] if image.tile else None
    raw = tile[3] if tile else ""
    first = raw[0] if isinstance(raw, tuple) else raw
    if image.format in ("PPM", "JPEG2000"):
        at = file.tell()
        file.seek(0)
        start = file.read(1 << 16).partition(SIZ)[2]
        file.seek(at)
        bits = (start[38] & 127) + 1 if image.format == "JPEG2000" and len(start) > 38 else 8
        if bits > 8 or (image.format == "PPM" and (image.mode == "I" or (isinstance(raw, tuple) and raw[1] > 255))):
            raise UserError(
                f"{name} is {image.format} of more than 8 bits; allowed with a value_range: PNG, TIFF, .npy"
            )
    return image.format in ("PNG", "TIFF") and ";16" in str(first) and not image.mode.startswith("I")


def as_picture(pixels: np.ndarray) -> Image.Image:
    """uint8 (H, W, C) as Pillow's image of mode L, LA, RGB or RGBA."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))
