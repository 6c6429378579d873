"""Mask files as class indices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backbones import UserError
from backbones.errors import shorten
from backbones.images import opened
from segmentation.legend import IGNORE, has_colours, indices, not_in


def read_mask(
    path: str | Path, num_classes: int, reduce_zero_label: bool, legend: Mapping[str, Any] | None = None
) -> np.ndarray:
    """A mask file as class indices from 0, uint8 (H, W), with 255 for unlabelled pixels.

    Args:
        path: the file. A palette image counts by its indices, with a legend of colours by its colours.
        num_classes: the number of classes.
        reduce_zero_label: whether the value 0 is unlabelled, and 1 is the first class.
        legend: which values or colours are which class, as ``segmentation.legend`` describes. Without a legend the
            values are class indices.

    Raises:
        UserError: the file is absent, not an image, cut off, has several channels without a legend of colours, or holds
            values outside the classes. The message names the file.
    """
    mask = raw_mask(path, legend is not None and has_colours(legend))
    if legend is not None:
        return indices(mask, legend, path)
    first = int(reduce_zero_label)
    last = first + num_classes - 1
    odd = outside(mask, num_classes, reduce_zero_label)
    if odd.any():
        values = np.unique(mask[odd])
        also = f"0 and {IGNORE}" if reduce_zero_label else str(IGNORE)
        raise UserError(
            f"{path}: mask values {shorten(values)} are outside the {num_classes} classes; "
            f"allowed: {first} to {last}, and {also} for unlabelled pixels"
        )
    known = (mask >= first) & (mask <= last)
    return np.where(known, mask.astype(np.int64) - first, IGNORE).astype(np.uint8)


def outside(mask: np.ndarray, num_classes: int, reduce_zero_label: bool) -> np.ndarray:
    """Whether each value of a mask without a legend is neither a class nor unlabelled, bool (H, W)."""
    known = (mask >= 0) & (mask < num_classes + int(reduce_zero_label))  # NaN is not
    return ~(known | (mask == IGNORE))


def has_no_class(
    path: str | Path, num_classes: int, reduce_zero_label: bool, legend: Mapping[str, Any] | None = None
) -> np.ndarray:
    """The pixels because of which :func:`read_mask` refuses a mask, bool (H, W). Arguments and errors as there."""
    mask = raw_mask(path, legend is not None and has_colours(legend))
    if legend is None:
        return outside(mask, num_classes, reduce_zero_label)
    return not_in(legend, mask)


def raw_mask(path: str | Path, colours: bool = False) -> np.ndarray:
    """The values of a mask file: (H, W), or with ``colours`` RGB (H, W, 3).

    Raises:
        UserError: the file cannot be read, or has several channels without ``colours``.
    """
    with opened(path, what="mask") as image:
        if not colours:
            mask = np.array(image)
        elif image.mode in ("1", "L", "P", "RGB", "RGBA"):
            mask = np.array(image.convert("RGB"))
        else:
            raise UserError(f"{path}: a mask of mode {image.mode}; allowed: 8-bit RGB or a palette, for colours")
    if mask.ndim != 2 and not colours:
        raise UserError(
            f"{path}: {mask.shape[2]} channels; a mask has one, holding class indices, or needs a legend of colours, "
            "as legend={'road': [128, 64, 128], ...}"
        )
    return mask


def check_same_size(path: str | Path, mask: np.ndarray, height: int, width: int) -> None:
    """Raises UserError for a mask (H, W) that does not have the height and width of its image."""
    if mask.shape != (height, width):
        raise UserError(
            f"{path} has {mask.shape[1]}x{mask.shape[0]} pixels, and its image {width}x{height}, upright as its EXIF "
            "data say; allowed: the same size"
        )
