"""What findings show of masks: their values as colours, and the pixels that are of no class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backbones.errors import UserError
from backbones.images import opened, read_image
from backbones.reading import Reading
from segmentation.mask_files import has_no_class
from ziggurat.engine.draw import make_palette
from ziggurat.engine.panels import Line, Panel
from ziggurat.engine.shown import RED, Photo, scale_of, short

MOST_LINES = 6  # values of a mask that are named
COLOURS = np.array([(0, 0, 0), *make_palette(254), (255, 255, 255)], np.uint8)  # of the values 0 to 255


@dataclass(frozen=True)
class MaskShown:
    """A mask file: values in colours of their own, colours as they are."""

    path: Path

    def panel(self, reading: Reading, most: int) -> Panel:
        """As :class:`ziggurat.engine.panels.Shown`."""
        with opened(self.path, what="mask") as image:
            values = np.array(image, np.uint8 if image.mode == "1" else None)
            numbers = np.nan_to_num(values).astype(np.int64) % 256
            pixels = COLOURS[numbers] if values.ndim == 2 else np.array(image.convert("RGB"))
        height, width = pixels.shape[:2]
        channels = "1 channel" if values.ndim == 2 else f"{values.shape[2]} channels"
        title = f"mask, {short(self.path)}, {width}x{height}, {channels}"
        return Panel(title, resized(Image.fromarray(pixels), most), values_in(values, pixels))


@dataclass(frozen=True)
class OddPixels:
    """An image whose pixels of no class are red.

    Attributes:
        image: the file.
        mask: its mask.
        how: the further arguments of ``read_mask``.
    """

    image: Path
    mask: Path
    how: tuple[int, bool, Any]

    def panel(self, reading: Reading, most: int) -> Panel:
        """As :class:`ziggurat.engine.panels.Shown`. The image alone, if its mask is of colours or of another size."""
        image = read_image(self.image, reading=reading)
        try:
            odd = has_no_class(self.mask, *self.how)
        except UserError:
            odd = None
        if odd is None or odd.shape != (image.height, image.width):
            return Photo(self.image, words="image").panel(reading, most)
        pixels = np.array(image.convert("L").convert("RGB")) // 2 + 96
        pixels[odd] = RED
        title = f"pixels of no class, {short(self.image)}"
        return Panel(title, resized(Image.fromarray(pixels), most), [Line(f"{odd.mean():.2%} of the pixels", RED)])


def beside(pairs: Sequence[tuple[Path, Path]]) -> list[Sequence[Any]]:
    """A picture for each image and its mask."""
    return [(Photo(image, words="image"), MaskShown(mask)) for image, mask in pairs]


def resized(image: Image.Image, most: int) -> Image.Image:
    """The picture in the size of a panel. No new colours are made."""
    scale = scale_of(*image.size, most)
    size = [max(1, round(side * scale)) for side in image.size]
    return image.resize(size, Image.Resampling.NEAREST)


def values_in(values: np.ndarray, pixels: np.ndarray) -> list[Line]:
    """Lines for the most frequent values (H, W) or colours (H, W, C) of a mask, with the colours (H, W, 3) drawn."""
    flat = values.reshape(-1) if values.ndim == 2 else pixels.reshape(-1, 3).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    different, first, counts = np.unique(flat, return_index=True, return_counts=True)
    lines = []
    for i in np.argsort(-counts, kind="stable")[:MOST_LINES]:
        colour = tuple(pixels.reshape(-1, 3)[first[i]].tolist())
        name = f"value {different[i]}" if values.ndim == 2 else f"colour {list(colour)}"
        lines.append(Line(f"{name}: {counts[i] / len(flat):.1%}", colour))
    rest = len(different) - len(lines)
    return [*lines, Line(f"and {rest:,} other {'values' if values.ndim == 2 else 'colours'}")] if rest else lines
