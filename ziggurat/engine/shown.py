"""What findings show: photographs with boxes and outlines, and bars of classes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from backbones.images import read_image
from backbones.reading import Reading
from ziggurat.engine.draw import Colour
from ziggurat.engine.lettering import shortened, write
from ziggurat.engine.panels import Line, Panel

RED, BLUE, GREY = (255, 40, 40), (40, 170, 255), (128, 128, 128)
LEAST = 480  # pixels of a panel's longer side; smaller images are enlarged by a whole number
MARGIN, REACH = 0.05, 0.5  # of an image's longer side: shown around it, and shown at most for boxes beyond it
SMALL = 14  # pixels of a drawn box, below which a ring around it is drawn, so that the object is to be seen
RING = 6  # pixels
MOST_NAMES, NAMES_WIDTH, NAME_ROW, NAME_SIZE = 40, 400, 26, 17  # names of a list; pixels
PAPER = (255, 255, 255)

Box = Sequence[float]  # x, y, width, height


@dataclass(frozen=True)
class Photo:
    """An image. Boxes and outlines have a grey margin around it, in which those beyond the image are to be seen.

    Attributes:
        path: the file.
        boxes: [x, y, width, height] in pixels of the frame.
        outlines: polygons x, y, x, y, ... in pixels of the frame.
        words: what the picture is, such as "as read".
        changes: of the rule of reading, such as ``{"upright": False}``.
        frame: (width, height) that the image is resized to; None leaves its own.
    """

    path: Path
    boxes: Sequence[Box] = ()
    outlines: Sequence[Sequence[float]] = ()
    words: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    frame: tuple[float, float] | None = None

    def panel(self, reading: Reading, most: int) -> Panel:
        """As :class:`ziggurat.engine.panels.Shown`."""
        image = read_image(self.path, reading=reading._replace(**self.changes))
        width, height = self.frame or image.size
        left, top, right, bottom = self.extent(width, height)
        scale = scale_of(right - left, bottom - top, most)
        canvas = Image.new("RGB", (round((right - left) * scale), round((bottom - top) * scale)), GREY)
        resized = image.resize((max(1, round(width * scale)), max(1, round(height * scale))))
        canvas.paste(resized, (round(-left * scale), round(-top * scale)))
        draw = ImageDraw.Draw(canvas)
        for points in self.outlines:
            line = [((x - left) * scale, (y - top) * scale) for x, y in zip(points[::2], points[1::2], strict=True)]
            draw.line([*line, line[0]], fill=BLUE, width=2)
        for number, (x, y, w, h) in enumerate(self.boxes, 1):
            label = str(number) if len(self.boxes) > 1 else ""
            corners = (x - left, y - top, x + w - left, y + h - top)
            draw_box(draw, np.array(corners) * scale, canvas.size, label)
        title = ", ".join(part for part in (self.words, short(self.path), f"{width:g}x{height:g}") if part)
        return Panel(title, canvas, [*self.lines()])

    def extent(self, width: float, height: float) -> tuple[float, float, float, float]:
        """The part of the plane that is shown: left, top, right, bottom."""
        if not (self.boxes or self.outlines):
            return 0.0, 0.0, width, height
        corners = [(0.0, 0.0, width, height)]
        corners += [(min(x, x + w), min(y, y + h), max(x, x + w), max(y, y + h)) for x, y, w, h in self.boxes]
        corners += [
            (min(one[::2]), min(one[1::2]), max(one[::2]), max(one[1::2])) for one in self.outlines if len(one) > 1
        ]
        low, high = np.array(corners)[:, :2].min(axis=0), np.array(corners)[:, 2:].max(axis=0)
        margin, reach = MARGIN * max(width, height), REACH * max(width, height)
        left, top = np.maximum(low - margin, -reach)
        right, bottom = np.minimum(high + margin, np.array([width, height]) + reach)
        return float(left), float(top), float(right), float(bottom)

    def lines(self) -> list[Line]:
        """The numbers of the boxes, and what the colours are."""
        lines = []
        for number, (x, y, w, h) in enumerate(self.boxes, 1):
            name = f"box {number}" if len(self.boxes) > 1 else "box"
            lines.append(Line(f"{name}: x {x:g}, y {y:g}, width {w:g}, height {h:g}", RED))
        return [*lines, Line("outline", BLUE)] if self.outlines else lines


@dataclass(frozen=True)
class Bars:
    """A bar for each class.

    Attributes:
        title: above the bars.
        names: of the classes.
        counts: of each class.
        marked: the names that the finding is about. They come first, and are red.
    """

    title: str
    names: Sequence[str]
    counts: Sequence[int]
    marked: Collection[str] = ()

    def panel(self, reading: Reading, most: int) -> Panel:
        """As :class:`ziggurat.engine.panels.Shown`."""
        from ziggurat.engine.pages.charts import (
            draw_counts,  # matplotlib takes a second, which trainings need not wait for
        )

        names, marked = [str(name) for name in self.names], {str(name) for name in self.marked}
        return Panel("", draw_counts(names, np.array(self.counts, int), self.title, marked))


@dataclass(frozen=True)
class Names:
    """A numbered list of classes.

    Attributes:
        title: above the list.
        names: of the classes, in their order.
        marked: the names that the finding is about, which are red.
    """

    title: str
    names: Sequence[str]
    marked: Collection[str] = ()

    def panel(self, reading: Reading, most: int) -> Panel:
        """As :class:`ziggurat.engine.panels.Shown`. Of many names those from the first marked one on are listed."""
        first = next((i for i, name in enumerate(self.names) if name in self.marked), 0)
        first = max(0, min(first - 2, len(self.names) - MOST_NAMES))
        rows = [(f"{i}  {self.names[i]}", self.names[i]) for i in range(first, len(self.names))[:MOST_NAMES]]
        image = Image.new("RGB", (NAMES_WIDTH, NAME_ROW * (len(rows) + 1)), PAPER)
        draw = ImageDraw.Draw(image)
        for row, (text, name) in enumerate(rows):
            text = shortened(draw, text, NAME_SIZE, NAMES_WIDTH - 24)
            write(draw, (12, NAME_ROW * (row + 1)), text, NAME_SIZE, RED if name in self.marked else (0, 0, 0))
        rest = "" if len(rows) == len(self.names) else f", {first} to {first + len(rows) - 1} shown"
        return Panel(f"{self.title}: {len(self.names)}{rest}", image)


def scale_of(width: float, height: float, most: int) -> float:
    """The factor by which a part of an image is drawn: a whole number for small ones, below 1 for large ones."""
    longer = max(width, height)
    return most / longer if longer > most else max(1, min(-(-LEAST // max(1, int(longer))), int(most // longer)))


def draw_box(draw: ImageDraw.ImageDraw, corners: np.ndarray, size: tuple[int, int], label: str) -> None:
    """A red box x1, y1, x2, y2, cut at the canvas. A small one gets a ring around it."""
    low, high = np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])
    if (high - low).min() < SMALL:
        low, high = low - RING, high + RING
    limit = np.array(size) - 1
    low, high = np.clip(low, 0, limit), np.clip(high, 0, limit)
    draw.rectangle([*low, *high], outline=RED, width=2)
    if label:
        place = (float(min(low[0] + 5, limit[0] - 12)), float(low[1] + 12 if high[1] - low[1] > 24 else low[1] - 9))
        write_outlined(draw, place, label)


def write_outlined(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: Colour = RED) -> None:
    """A word on a dark plate, which is legible on any image."""
    x, y = place
    draw.rectangle([x - 3, y - 9, x + 9 * len(text) + 3, y + 9], fill=(0, 0, 0))
    write(draw, (x, y), text, 16, colour)


def short(path: Path) -> str:
    """The end of a path, with two of its folders."""
    return "/".join(Path(path).parts[-3:])
