"""Joining the scores of overlapping windows without seams, in memory that does not grow with the image's height.

The windows come row by row, from left to right. A window's scores count less towards its borders, and the weights of
all windows at a pixel sum to one. So a pixel is final when the last window that shows the pixel has come. Only the
pixels that later windows still change are kept: a strip as high as two rows of windows share, and a part of one window.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ziggurat.engine.tiles import Tiles


class Span(NamedTuple):
    """A window along one side of the image.

    Attributes:
        start, end: its first pixel, and the pixel behind its last one.
        weights: (end - start,) float32. The weights of all windows at a pixel sum to one.
    """

    start: int
    end: int
    weights: Tensor


def spans_of(length: int, tiles: Tiles) -> list[Span]:
    """The windows along a side of ``length`` pixels. They are as many as mmseg's, and evenly spread."""
    ends = tiles.intervals(length)
    size, last = ends[0][1], len(ends) - 1
    starts = [round(i * (length - size) / last) for i in range(last + 1)] if last else [0]
    places = torch.arange(size, dtype=torch.float64) + 0.5
    ramp = torch.minimum(places, size - places)
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts:
        total[start : start + size] += ramp
    return [Span(start, start + size, (ramp / total[start : start + size]).float()) for start in starts]


class Joining:
    """The weighted sum of the windows of one image.

    Args:
        rows, columns: the windows along both sides.
        emit: takes final scores (C, h, w), and the row and column of their upper left pixel in the image. The parts
            come from left to right and from top to bottom, and cover the image once.
    """

    def __init__(self, rows: list[Span], columns: list[Span], emit: Callable[[Tensor, int, int], None]):
        self.rows, self.columns, self.emit = rows, columns, emit
        self.strip: Tensor | None = None  # (C, h, W): the pixels that this row of windows shares with the next
        self.beside: Tensor | None = None  # (C, h, w): the pixels that this window shares with the next

    def add(self, scores: Tensor, i: int, j: int) -> None:
        """Adds the window in row ``i`` and column ``j``. ``scores`` (C, h, w) are those of its pixels."""
        row, column = self.rows[i], self.columns[j]
        bottom = self.rows[i + 1].start if i + 1 < len(self.rows) else row.end
        right = self.columns[j + 1].start if j + 1 < len(self.columns) else column.end
        sums = scores * row.weights.to(scores)[:, None] * column.weights.to(scores)
        if j:
            sums[:, :, : self.beside.shape[2]] += self.beside
        done, self.beside = sums[:, :, : right - column.start], sums[:, :, right - column.start :].clone()
        if i:
            shared = self.rows[i - 1].end - row.start
            done[:, :shared] += self.strip[:, :shared, column.start : right]
        self.emit(done[:, : bottom - row.start], row.start, column.start)
        if bottom < row.end:
            if self.strip is None:
                shared = max(one.end - other.start for one, other in zip(self.rows, self.rows[1:]))
                self.strip = sums.new_empty(len(sums), shared, self.columns[-1].end)
            self.strip[:, : row.end - bottom, column.start : right] = done[:, bottom - row.start :]
