"""Image, ground truth and prediction of a dense task side by side, as a tile of the best and worst images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from backbones.images import read_image
from backbones.reading import READING, Reading
from ziggurat.engine.draw import Colour, side_by_side, with_legend
from ziggurat.engine.sheet import Tile

Drawing = Callable[[Image.Image], Image.Image]
SIZE, COLUMNS = (1080, 400), 2  # of a tile with three pictures, and tiles in a row
SHOWN = 480  # pixels; the width at which things are drawn on an image
TITLES = ("image", "ground truth", "prediction")
GREEN, RED = (70, 170, 90), (215, 70, 60)


def triptych(
    path: str | Path,
    drawings: list[Callable[[Image.Image], Image.Image]],
    lines: list[str],
    good: bool,
    reading: Reading = READING,
) -> Tile:
    """A tile of three pictures.

    Args:
        path: of the image. The last line of the caption names it and its folder.
        drawings: draw the ground truth and the prediction on the image, which is scaled before to the width ``SHOWN``.
        lines: of the caption.
        good: whether the frame is green, and not red.
        reading: the rule by which the data set reads the image.
    """
    image = read_image(path, reading=reading)
    image = image.resize((SHOWN, max(1, round(image.height * SHOWN / image.width))), Image.Resampling.BICUBIC)
    parts = dict(zip(TITLES, [image, *(draw(image) for draw in drawings)], strict=True))
    lines = [*lines, "/".join(Path(path).parts[-2:])]
    return Tile(side_by_side(list(parts.values()), TITLES), lines, GREEN if good else RED, parts)


def with_legends(tile: Tile, truth: Sequence[tuple[str, Colour]], found: Sequence[tuple[str, Colour]]) -> Tile:
    """The tile with the names of colours below its parts: those of the ground truth, and those of the prediction."""
    named = {title: with_legend(tile.parts[title], own) for title, own in zip(TITLES[1:], (truth, found), strict=True)}
    return replace(tile, parts={**tile.parts, **named})
