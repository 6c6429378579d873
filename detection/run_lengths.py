"""Masks as COCO's run lengths: a dict with ``size`` (height, width) and ``counts``, in compressed form."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


class RunLengths(Sequence):
    """N bool masks (height, width), kept as run lengths: many masks of a large image fit into memory.

    An index gives one mask as an array, a slice or an array of indices some masks. ``np.asarray`` lays out all masks.

    Args:
        rows: N run lengths.
        size: (height, width).
    """

    def __init__(self, rows: Sequence[dict[str, Any]], size: tuple[int, int]):
        self.rows = list(rows)
        self.shape = (len(self.rows), *size)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            return coco_mask.decode(self.rows[index]).astype(bool)
        return RunLengths([self.rows[i] for i in np.arange(len(self))[index]], self.shape[1:])

    def part(self, index: int) -> tuple[np.ndarray, tuple[int, int]]:
        """The part of a mask within its box, (h, w) bool, and the row and column of the upper left pixel.

        Memory holds the columns of the box, and not the whole image.
        """
        left, top, width, height = map(int, coco_mask.toBbox(self.rows[index]))
        places = np.cumsum(counts_of(self.rows[index]["counts"])) - left * self.shape[1]
        changes = np.zeros(width * self.shape[1] + 1, np.int8)
        np.add.at(changes, places[0 : len(places) // 2 * 2 : 2], 1)
        np.add.at(changes, places[1::2], -1)
        columns = np.cumsum(changes[:-1], dtype=np.int8).reshape(width, self.shape[1])
        return columns[:, top : top + height].T.astype(bool), (top, left)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(list(self), bool).reshape(self.shape).astype(dtype or bool)


def run_lengths(masks: Any) -> list[dict[str, Any]]:
    """Run lengths of masks: (N, H, W), a tensor or an array; or run lengths already, which are returned."""
    if isinstance(masks, list):
        return masks
    if isinstance(masks, RunLengths):
        return masks.rows
    return [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in np.asarray(masks)]


def placed(mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """Run lengths of a part's mask in the whole image, whose pixels are never laid out.

    Args:
        mask: (h, w), of the part.
        corner: x and y of the part's upper left pixel in the image.
        size: (height, width) of the image, which has the whole part.
    """
    (left, top), (height, width) = corner, size
    steps = np.diff(np.pad(np.asarray(mask, np.int8), ((1, 1), (0, 0))), axis=0).T  # where runs of columns start, end
    columns, rows = np.nonzero(steps)
    places, counts = np.unique((columns + int(left)) * height + rows + int(top), return_counts=True)
    places = places[counts == 1]  # one run may end where the next column's run starts
    lengths = np.diff(np.concatenate([[0], places, [height * width]]))
    return coco_mask.frPyObjects(dict(size=[height, width], counts=lengths.tolist()), height, width)


def counts_of(compressed: bytes | str) -> list[int]:
    """The lengths of the runs, from COCO's compressed form: 5 bits a letter, from the third on as differences."""
    letters = compressed.encode() if isinstance(compressed, str) else compressed
    counts, value, shift = [], 0, 0
    for letter in letters:
        value |= (letter - 48 & 0x1F) << shift
        shift += 5
        if letter - 48 & 0x20:  # the number goes on
            continue
        value -= (letter - 48 & 0x10) << shift - 4  # its sign
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def as_text(mask: dict[str, Any]) -> dict[str, Any]:
    """Run lengths in JSON's types."""
    counts = mask["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": list(map(int, mask["size"])), "counts": text}
