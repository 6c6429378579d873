"""The number of pixels up to which an image is decoded. A small file may ask for all memory."""

import contextlib
import warnings
from collections.abc import Iterator

from PIL import Image

OPTION = "reading.max_pixels"

# Pillow warns of half as many pixels as it refuses. Satellite images and scans have so many.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@contextlib.contextmanager
def decoding_up_to(pixels: int | None) -> Iterator[None]:
    """Lets Pillow open images of up to so many pixels inside the block. None keeps Pillow's own limit.

    Pillow has one limit for a process: twice ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    if pixels is None:
        yield
        return
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels / 2
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def too_many_pixels(what: str, name: object) -> str:
    """The message for a file of more pixels than the limit in force. ``what`` is "image" or "mask"."""
    limit = 2 * Image.MAX_IMAGE_PIXELS / 1e6
    allowed = f"up to {limit:.0f} megapixels" if limit >= 10 else f"up to {limit:g} megapixels"
    cure = f"more with {OPTION}=N, or --max-pixels N of tools/predict.py" if what == "image" else "cut it into parts"
    return f"{what} has too many pixels: {name}; allowed: {allowed}; {cure}"
