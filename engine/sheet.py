"""A page of small pictures with captions, in blocks under titles."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from engine.draw import INK, PANEL, Colour, font, shortened

SIDE = 224  # pixels; a picture is scaled to fit a square of this side
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
    """

    image: Image.Image
    lines: Sequence[str]
    colour: Colour


def draw_sheet(blocks: Sequence[tuple[str, Sequence[Tile]]]) -> Image.Image:
    """The page, RGB. A block is a title and its tiles, four in a row. A block without tiles is left out."""
    blocks = [(title, tiles) for title, tiles in blocks if tiles]
    row = round(TEXT * 1.35)
    heights = []  # of one row of tiles, for each block
    for _, tiles in blocks:
        heights.append(SIDE + 2 * FRAME + row * max(len(tile.lines) for tile in tiles) + GAP)
    rows = [-(-len(tiles) // COLUMNS) for _, tiles in blocks]
    head = TITLE * 2
    width = GAP + COLUMNS * (SIDE + 2 * FRAME + GAP)
    page = Image.new("RGB", (width, sum(head + n * height for n, height in zip(rows, heights)) + GAP), PANEL)
    draw, top = ImageDraw.Draw(page), 0
    for (title, tiles), count, height in zip(blocks, rows, heights):
        draw.text((GAP, top + head // 2), title, fill=INK, font=font(TITLE), anchor="lm")
        for i, tile in enumerate(tiles):
            left = GAP + i % COLUMNS * (SIDE + 2 * FRAME + GAP)
            place_tile(page, tile, left, top + head + i // COLUMNS * height, row)
        top += head + count * height
    return page


def place_tile(page: Image.Image, tile: Tile, left: int, top: int, row: int) -> None:
    """Draws a tile with its upper left corner at (left, top). ``row`` is the height of a line of text."""
    draw = ImageDraw.Draw(page)
    draw.rectangle(
        [left, top, left + SIDE + 2 * FRAME - 1, top + SIDE + 2 * FRAME - 1], outline=tile.colour, width=FRAME
    )
    scale = SIDE / max(tile.image.size)
    size = [max(1, round(side * scale)) for side in tile.image.size]
    small = tile.image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    page.paste(small, (left + FRAME + (SIDE - size[0]) // 2, top + FRAME + (SIDE - size[1]) // 2))
    for k, line in enumerate(tile.lines):
        text = shortened(draw, line, font(TEXT), SIDE + 2 * FRAME)
        middle = top + SIDE + 2 * FRAME + k * row + row // 2 + 2
        draw.text((left, middle), text, fill=INK, font=font(TEXT), anchor="lm")
