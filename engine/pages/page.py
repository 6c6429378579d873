"""One page in HTML: figures, charts, tables and a gallery of pictures that can be filtered.

The page is one file. Its pictures lie beside it and are named by relative paths, so the folder can be moved as a whole.
Nothing is loaded from a network. Names of files and classes may hold anything: they are shown as text, never as markup.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from backbones.errors import printable
from backbones.files import replaced_file

NAME = "index.html"
LARGEST = 1280  # pixels; larger pictures are reduced to this width and height before they are saved
LEAST_COLUMN, MOST_COLUMN = 180, 320  # pixels, of a picture's column in a narrow window
LONG_TABLE = 30  # rows; a longer table is folded


@dataclass
class Picture:
    """A picture beside the page.

    Attributes:
        file: its path below the page's folder, with slashes.
        label: what it shows: the caption, and the text in its place where pictures are not shown.
        width, height: in pixels.
        link: a file that a click opens; "" for the picture itself.
    """

    file: str
    label: str
    width: int
    height: int
    link: str = ""


@dataclass
class Table:
    """A table. None is an empty cell. The first column names the rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass
class Card:
    """An image of the gallery.

    Attributes:
        name: of the image.
        pictures: of the image, side by side.
        lines: of the caption.
        marks: filter -> the values by which that filter shows the card.
    """

    name: str
    pictures: Sequence[Picture]
    lines: Sequence[str] = ()
    marks: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass
class Page:
    """The content of a page.

    Attributes:
        title: of the page.
        intro: one or two sentences on what is to be seen.
        facts: name -> value, at the top.
        notes: what the reader should know, such as files that are left out.
        charts: pictures above the tables.
        tables: below the charts.
        galleries: title -> cards.
        filters: name of a filter -> its values in order. Values that no card has are offered, too.
        files: further files beside the page: name -> path below the page's folder.
    """

    title: str
    intro: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    charts: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    galleries: Mapping[str, Sequence[Card]] = field(default_factory=dict)
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


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
    templates.filters |= {"address": address, "number": number, "is_number": is_number}
    cards = [card for gallery in page.galleries.values() for card in gallery]
    numbered = {name: {value: i for i, value in enumerate(values)} for name, values in page.filters.items()}
    text = templates.get_template("page.html.jinja").render(
        page=page,
        cards=cards,
        filters=filters_of(page.filters, cards),
        marks=lambda card: marks_of(card, numbered),
        column=column_of,
        long_table=LONG_TABLE,
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


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(value: Any) -> str:
    """A cell or fact as text: large whole numbers in groups of three digits, others with four digits."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10000 else str(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
