"""What a page consists of: figures, charts, tables, and a gallery of pictures that can be filtered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


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
    """A table. None is an empty cell. The first column names the rows. A folded one shows its rows after a click."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folded: bool = False


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
