"""A page of the queries and their neighbours."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from backbones import UserError
from backbones.files import replaced_file
from backbones.pixels import picture
from backbones.reading import Reading
from backbones.store import FeatureStore
from backbones.store.search import Neighbour
from ziggurat.engine.features.sources import StoredImage, image_named
from ziggurat.engine.search.queries import Part
from ziggurat.engine.search.results import WORDS, WRITER
from ziggurat.engine.sheet import SQUARE, Tile, draw_sheet

MOST_QUERIES, MOST_NEIGHBOURS = 20, 23  # of a page
COLUMNS = 6
QUERY, FOUND, MISSING = (255, 176, 32), (70, 130, 200), (90, 92, 100)  # colours of frames; the first marks places, too


def write_sheet(
    path: Path,
    store: FeatureStore,
    found: Sequence[tuple[StoredImage, Sequence[Neighbour]]],
    metric: str,
    part: Part | None,
    reading: Reading,
) -> int:
    """Draws up to 20 queries with up to 23 neighbours each. A neighbour that cannot be read is an empty tile.

    Returns:
        The number of empty tiles.

    Args:
        path: of the .png file.
        store: the store.
        found: queries and their neighbours.
        metric: of their scores.
        part: the part of each query that was searched for.
        reading: the rule by which images are read.
    """
    blocks = []
    for query, neighbours in found[:MOST_QUERIES]:
        tiles = [tile_of(query, ["query", Path(query.name).name], QUERY, part, None, reading)]
        for rank, one in enumerate(neighbours[:MOST_NEIGHBOURS], 1):
            lines = [f"{rank}: {WORDS[metric]} {one.score:.4f}", Path(one.image).name]
            share = one.place and [at / side for at, side in zip(one.place, store.size_of(one.position), strict=True)]
            tiles.append(tile_of(image_named(one.image), lines, FOUND, None, share, reading))
        blocks.append((query.name, tiles))
    columns = min(COLUMNS, max(len(tiles) for _, tiles in blocks))
    with replaced_file(path) as beside:
        about = PngInfo()
        about.add_text(*WRITER)
        draw_sheet(blocks, SQUARE, columns).save(beside, "PNG", pnginfo=about)
    return sum(tile.colour == MISSING for _, tiles in blocks for tile in tiles)


def tile_of(
    image: StoredImage | None,
    lines: list[str],
    colour: tuple[int, int, int],
    part: Part | None,
    place: Sequence[float] | None,
    reading: Reading,
) -> Tile:
    """A picture with its part or its place marked, which is a row and a column as shares of height and width."""
    try:
        if image is None:
            raise UserError("the image is not there")
        shown = picture(image.pixels(reading))
    except UserError:
        return Tile(Image.new("RGB", SQUARE, MISSING), [*lines, "cannot be read"], MISSING)
    scale = min(room / side for room, side in zip(SQUARE, shown.size, strict=True))
    small = shown.resize([max(1, round(side * scale)) for side in shown.size], Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(small)
    if part is not None:
        mark(draw, part.column * scale, part.row * scale, part.width * scale, part.height * scale)
    if place is not None:
        mark(draw, place[1] * small.width, place[0] * small.height, 0, 0)
    return Tile(small, lines, colour)


def mark(draw: ImageDraw.ImageDraw, left: float, top: float, width: float, height: float) -> None:
    """A box; a small one becomes a ring around its middle."""
    ring = 9
    if max(width, height) < 2 * ring:
        left, top = left + width / 2 - ring, top + height / 2 - ring
        for radius, colour in ((1, (0, 0, 0)), (0, QUERY)):
            corners = [left - radius, top - radius, left + 2 * ring + radius, top + 2 * ring + radius]
            draw.ellipse(corners, outline=colour, width=3 + radius)
        return
    draw.rectangle([left - 1, top - 1, left + width + 1, top + height + 1], outline=(0, 0, 0), width=4)
    draw.rectangle([left, top, left + width, top + height], outline=QUERY, width=2)
