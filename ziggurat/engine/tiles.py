"""Tiles: overlapping windows of one size that cover an image."""

from typing import NamedTuple

from backbones.checks import MIN_SIZE, check_int
from backbones.errors import UserError, shown

OVERLAP = 0.25  # mmdet's default for large images


class Tiles(NamedTuple):
    """How images are cut.

    Attributes:
        size: the side of a tile, in pixels.
        overlap: the share of a tile that its neighbour also shows, from 0 to less than 1.
    """

    size: int
    overlap: float = OVERLAP

    @property
    def stride(self) -> int:
        """The distance of neighbours, in pixels. A last tile is moved back to the image's border."""
        return max(1, round(self.size * (1 - self.overlap)))

    def windows(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """x1, y1, x2, y2 of each tile of an image, in pixels, row by row.

        A side of the image that is shorter than a tile is not cut. The windows are those of mmseg's ``mode="slide"``.
        """
        rows, columns = self.intervals(height), self.intervals(width)
        return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]

    def intervals(self, length: int) -> list[tuple[int, int]]:
        """First pixel of each tile along a side of ``length`` pixels, and the pixel behind its last one."""
        count = max(-(-(length - self.size) // self.stride), 0) + 1
        ends = [min(i * self.stride + self.size, length) for i in range(count)]
        return [(max(end - self.size, 0), end) for end in ends]


def tiles_of(
    size: int | None, overlap: float | None = None, names: tuple[str, str] = ("tile", "tile_overlap")
) -> Tiles:
    """Checked tiles. ``names`` are those of the two options in messages.

    Raises:
        UserError: ``size`` is no integer from 32 up, ``overlap`` is no share below 1, or there is an overlap alone.
    """
    if size is None:
        raise UserError(f"{names[1]} is {shown(overlap)}, without {names[0]}; allowed: both, or {names[0]} alone")
    size = check_int(names[0], size, MIN_SIZE, None)
    if overlap is None:
        return Tiles(size)
    if isinstance(overlap, bool) or not isinstance(overlap, int | float) or not 0 <= overlap < 1:
        raise UserError(f"{names[1]} is {shown(overlap)}; allowed: from 0 to less than 1")
    return Tiles(size, float(overlap))
