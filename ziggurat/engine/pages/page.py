"""Writing a page as HTML.

The page is one file. Its pictures lie beside it and are named by relative paths, so the folder can be moved as a whole.
Nothing is loaded from a network. Names of files and classes may hold anything: they are shown as text, never as markup.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from backbones.errors import UserError, printable, shorten
from backbones.files import replaced_file
from ziggurat.engine.pages.content import Card, Page, Picture, Table

NAME = "index.html"
MARK = Markup('<meta name="generator" content="ziggurat page">')  # tells a page of this project from others
LARGEST = 1280  # pixels; larger pictures are reduced to this width and height before they are saved
LEAST_COLUMN, MOST_COLUMN = 180, 320  # pixels, of a picture's column in a narrow window
LONG_TABLE = 30  # rows; a longer table is folded
WIDE = 600  # pixels; a wider chart can be moved sideways in a narrow window


def check_page_folder(folder: Path, option: str, patterns: Sequence[str] = ()) -> None:
    """Checks that a page replaces no files but those of an earlier page.

    Args:
        folder: of the page.
        option: that names the folder, for the message.
        patterns: of further files that are written beside the page, as for ``Path.glob``.

    Raises:
        UserError: the folder has such files, and no page of this project.
    """
    page = folder / NAME
    if page.is_file() and MARK.encode() in page.read_bytes()[:1000]:
        return
    found = sorted(path.name for pattern in (NAME, *patterns) for path in folder.glob(pattern))
    if found:
        raise UserError(
            f"{option} {folder} has {shorten(found)}, and no page that could be replaced; "
            "allowed: a new or empty folder, or one with an earlier page"
        )


def write_page(folder: Path, page: Page) -> Path:
    """Writes a page whole or not at all, and returns its path. Its pictures must be there already."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"address": address, "number": number, "lower_first": lower_first}
    cards = [card for gallery in page.galleries.values() for card in gallery]
    numbered = {name: {value: i for i, value in enumerate(values)} for name, values in page.filters.items()}
    text = templates.get_template("page.html.jinja").render(
        page=page,
        mark=MARK,
        cards=cards,
        filters=filters_of(page.filters, cards),
        marks=lambda card: marks_of(card, numbered),
        column=column_of,
        cells=cells_of,
        long_table=LONG_TABLE,
        wide=WIDE,
    )
    path = folder / NAME
    with replaced_file(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return path


def filters_of(filters: Mapping[str, Sequence[str]], cards: Sequence[Card]) -> dict[str, list[tuple[str, int]]]:
    """Each filter's values with the number of cards that have them."""
    counts = {name: Counter(value for card in cards for value in set(card.marks.get(name, ()))) for name in filters}
    return {name: [(value, counts[name][value]) for value in values] for name, values in filters.items()}


def marks_of(card: Card, numbered: Mapping[str, Mapping[str, int]]) -> str:
    """A card's values as words ``FILTER:VALUE``, by the numbers of both, for the page's script."""
    words = []
    for i, (name, values) in enumerate(numbered.items()):
        words += [f"{i}:{values[value]}" for value in dict.fromkeys(card.marks.get(name, ())) if value in values]
    return " ".join(words)


def column_of(cards: Sequence[Card]) -> tuple[int, int]:
    """The least width in pixels of a picture in a gallery, and the number of pictures that a card has at most."""
    widest = max((picture.width for card in cards for picture in card.pictures), default=MOST_COLUMN)
    return min(MOST_COLUMN, max(LEAST_COLUMN, widest)), max((len(card.pictures) for card in cards), default=1)


def plain(value: Any) -> Any:
    """A value as text without control characters. A file's name may also hold bytes that are no text."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


def address(path: str) -> str:
    """A path below the page's folder as a relative address."""
    return quote(os.fsencode(path))


def cells_of(table: Table) -> tuple[list[list[str]], set[int]]:
    """The cells of a table as texts, and which columns hold numbers alone."""
    columns = list(zip(*table.rows, strict=True))
    numeric = {i for i, cells in enumerate(columns) if i and all(map(is_number, cells))}
    texts = [[number(cell, digits_of(cells)) for cell in cells] for cells in columns]
    return [list(row) for row in zip(*texts, strict=True)], numeric


def is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def digits_of(values: Sequence[Any]) -> int:
    """Decimals to show of numbers: three of shares up to 1, else two."""
    return 3 if all(abs(value) <= 1 for value in values if isinstance(value, float)) else 2


def number(value: Any, digits: int | None = None) -> str:
    """A cell or fact as text. Large whole numbers are in groups of three digits."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{digits_of([value]) if digits is None else digits}f}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10000:
        return f"{value:,}".replace(",", "\u202f")
    return str(value)


def lower_first(title: str) -> str:
    """A title inside a sentence."""
    return title[:1].lower() + title[1:]


def save_picture(image: Image.Image, folder: Path, file: str, label: str, link: str = "") -> Picture:
    """Saves a picture of a page, JPEG or PNG by the file's suffix, reduced to ``LARGEST``. PNG keeps its size."""
    image = image.convert("RGB")
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    with replaced_file(path) as beside:
        image.save(beside, "JPEG" if path.suffix == ".jpg" else "PNG", quality=88)
    return Picture(file, label, *image.size, link)


def save_chart(image: Image.Image, folder: Path, file: str, label: str) -> Picture:
    """Saves a chart as PNG. The page shows it at half its size, sharp on fine screens."""
    picture = save_picture(image, folder, file, label)
    return replace(picture, width=picture.width // 2, height=picture.height // 2)
