"""A page of small pictures with captions, in blocks under titles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from ziggurat.engine.draw import INK, PANEL, Colour
from ziggurat.engine.lettering import shortened, write

SQUARE = (224, 224)  # width and height in pixels; a picture is scaled to fit
GAP, FRAME = 12, 5
TEXT, TITLE = 15, 20  # sizes of the letters
COLUMNS = 4


@dataclass
class Tile:
    """A picture with its caption.

    Attributes:
        image: RGB.
        lines: of the caption.
        colour: of the frame, RGB 0..255.
        parts: title -> picture, of a picture that is put together from several.
    """

    image: Image.Image
    lines: Sequence[str]
    colour: Colour
    parts: Mapping[str, Image.Image] = field(default_factory=dict)


def draw_sheet(
    blocks: Sequence[tuple[str, Sequence[Tile]]], size: tuple[int, int] = SQUARE, columns: int = COLUMNS
) -> Image.Image:
    """The page, RGB. A block is a title and its tiles. A block without tiles is left out.

    Args:
        blocks: from above to below.
        size: width and height in pixels that a tile's picture is scaled to fit.
        columns: tiles in a row.
    """
    blocks = [(title, tiles) for title, tiles in blocks if tiles]
    row = round(TEXT * 1.35)
    heights = []  # of one row of tiles, for each block
    for _, tiles in blocks:
        heights.append(size[1] + 2 * FRAME + row * max(len(tile.lines) for tile in tiles) + GAP)
    rows = [-(-len(tiles) // columns) for _, tiles in blocks]
    head = TITLE * 2
    width = GAP + columns * (size[0] + 2 * FRAME + GAP)
    page = Image.new("RGB", (width, sum(head + n * height for n, height in zip(rows, heights)) + GAP), PANEL)
    draw, top = ImageDraw.Draw(page), 0
    for (title, tiles), count, height in zip(blocks, rows, heights):
        write(draw, (GAP, top + head // 2), title, TITLE, INK)
        for i, tile in enumerate(tiles):
            left = GAP + i % columns * (size[0] + 2 * FRAME + GAP)
            place_tile(page, tile, left, top + head + i // columns * height, size, row)
        top += head + count * height
    return page


def place_tile(page: Image.Image, tile: Tile, left: int, top: int, size: tuple[int, int], row: int) -> None:
    """Draws a tile with its upper left corner at (left, top). ``row`` is the height of a line of text."""
    draw = ImageDraw.Draw(page)
    width, height = (side + 2 * FRAME for side in size)
    draw.rectangle([left, top, left + width - 1, top + height - 1], outline=tile.colour, width=FRAME)
    scale = min(room / side for room, side in zip(size, tile.image.size))
    fitted = [max(1, round(side * scale)) for side in tile.image.size]
    small = tile.image.convert("RGB").resize(fitted, Image.Resampling.BICUBIC)
    page.paste(small, (left + (width - fitted[0]) // 2, top + (height - fitted[1]) // 2))
    for k, line in enumerate(tile.lines):
        text = shortened(draw, line, TEXT, width)
        middle = top + height + k * row + row // 2 + 2
        write(draw, (left, middle), text, TEXT, INK)
