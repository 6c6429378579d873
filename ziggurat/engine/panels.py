"""A picture of a few panels in a row, under a heading: each panel has a title, an image, and lines below."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from PIL import Image, ImageDraw

from backbones.reading import Reading
from ziggurat.engine.draw import INK, PANEL, Colour
from ziggurat.engine.lettering import length, shortened, write

GAP = 16  # pixels between panels
NARROWEST = 560  # pixels of a page, for its heading
TEXT_LINES = 5  # of the text below the heading
ROW = 1.5  # a line's height, in sizes of letters
FAINT = (176, 180, 190)


class Line(NamedTuple):
    """A line below an image, with a patch of a colour before it, if it has one."""

    text: str
    colour: Colour | None = None


class Panel(NamedTuple):
    """An RGB image, a title above it, and lines below it."""

    title: str
    image: Image.Image
    lines: Sequence[Line] = ()


class Shown(Protocol):
    """What can be drawn of a finding."""

    def panel(self, reading: Reading, most: int) -> Panel:
        """Draws it.

        Args:
            reading: the rule by which images are read.
            most: pixels that a side of the image may have.

        Raises:
            UserError: a file cannot be read.
        """


def page_of(panels: Sequence[Panel], heading: str, text: str) -> Image.Image:
    """One RGB picture of the panels, from left to right.

    Args:
        panels: one or more.
        heading: the first line.
        text: below the heading, wrapped. What is longer than five lines ends in an ellipsis.
    """
    width = max(NARROWEST, sum(panel.image.width for panel in panels) + GAP * (len(panels) + 1))
    size = max(16, round(width / 65))
    row = round(ROW * size)
    words = wrapped(text, size, width - 2 * GAP)
    below = max(len(panel.lines) for panel in panels) * row
    top = GAP + row * (1 + len(words)) + GAP // 2
    height = top + row + max(panel.image.height for panel in panels) + below + GAP
    page = Image.new("RGB", (width, height), PANEL)
    draw = ImageDraw.Draw(page)
    head = round(1.1 * size)
    write(draw, (GAP, GAP + row // 2), shortened(draw, heading, head, width - 2 * GAP), head, INK)
    for number, line in enumerate(words, 1):
        write(draw, (GAP, GAP + row * number + row // 2), line, size, FAINT)
    left = GAP
    for panel in panels:
        room = panel.image.width if len(panels) > 1 else width - 2 * GAP
        write(draw, (left, top + row // 2), shortened(draw, panel.title, size, room), size, INK)
        page.paste(panel.image, (left, top + row))
        for number, line in enumerate(panel.lines):
            middle = top + row + panel.image.height + row * number + round(0.6 * row)
            indent = 0
            if line.colour is not None:
                draw.rectangle([left, middle - size // 2, left + size, middle + size // 2], fill=line.colour)
                indent = round(1.5 * size)
            write(draw, (left + indent, middle), shortened(draw, line.text, size, room - indent), size, INK)
        left += panel.image.width + GAP
    return page


def wrapped(text: str, size: int, width: float) -> list[str]:
    """A text in lines of up to ``width`` pixels, at most five."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    letters = max(20, int(width / (length(draw, "n" * 50, size) / 50)))
    lines = textwrap.wrap(text, letters, max_lines=TEXT_LINES, placeholder=" …")
    return [shortened(draw, line, size, width) for line in lines]
