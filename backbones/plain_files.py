"""Whether a file is whole, and plain enough for a faster decoder than Pillow."""

import io
import re
from pathlib import Path

from PIL import UnidentifiedImageError

from backbones import bands
from backbones.files import PatientFile
from backbones.images import ORIENTATION, START, by_pillow, check_is_file, opened, streamed
from backbones.pixel_limit import decoding_up_to
from backbones.reading import READING

ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}  # first bytes of a JPEG or PNG -> the mark at its end
START_OF_SCAN = 0xDA  # the marker of a JPEG that the coded pixels follow
# Marker of a JPEG's kind -> the markers that end its scans. Those of a progressive one have tables between them.
FRAMES = {
    0xC0: re.compile(rb"\xff[^\x00\xd0-\xd7]"),
    0xC1: re.compile(rb"\xff[^\x00\xd0-\xd7]"),
    0xC2: re.compile(rb"\xff[^\x00\xd0-\xd7\xc4\xda]"),
}
MOST_BY_OPENCV = 1 << 30  # pixels that OpenCV decodes
TAIL = 4096  # bytes at the end that are searched for the mark: some cameras append records of their own


def is_plain(path: str | Path, content: bytes, upright: bool = True, max_pixels: int | None = None) -> bool:
    """Whether the bytes are a whole 8-bit JPEG or PNG in RGB or grey, which need not be turned.

    OpenCV and Pillow decode such a file to equal pixels.

    Args:
        path: the file's name in messages.
        content: its bytes.
        upright: whether photographs are turned as their EXIF data say. If not, none need be turned.
        max_pixels: the most pixels of an image; None for Pillow's limit.

    Raises:
        UserError: a file that begins and ends as JPEG or PNG cannot be opened, or is too large, as for
            ``backbones.images.read_image``.
    """
    tail = content[-TAIL:]
    if not is_whole(content[:8], tail):
        return False
    with decoding_up_to(max_pixels), opened(path, content) as image:
        if image.mode not in ("RGB", "L") or image.width * image.height > MOST_BY_OPENCV:
            return False
        if image.format == "JPEG":
            is_upright = not upright or image.getexif().get(ORIENTATION, 1) == 1
            return is_upright and are_scans_whole(content)
        # PNG's bit depth is its byte 24. EXIF data may stand before the pixels or after them.
        extras = {"exif", "transparency"} & set(image.info) or b"eXIf" in tail
        return image.format == "PNG" and content[24] == 8 and not extras and not getattr(image, "is_animated", False)


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


def check_whole(path: str | Path, content: bytes | None = None) -> None:
    """Decodes an image of any number of channels, of a file of several the first; UserError if that fails.

    Arguments as for :func:`backbones.images.read_image`.
    """
    with streamed(path, content) as file:
        start = file.read(START)
        file.seek(0)
        if bands.is_array(start):
            bands.stored_array(file, READING, str(path))
            return
        try:
            by_pillow(file, path).load()
        except UnidentifiedImageError:
            if not bands.is_tiff(start):
                raise
            file.seek(0)
            bands.stored_tiff(file, READING, str(path))
