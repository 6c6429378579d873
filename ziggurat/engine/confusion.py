"""The picture of a confusion matrix, for two classes or a thousand. Its size follows their number."""

import io
from collections.abc import Sequence
from unicodedata import east_asian_width

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from PIL import Image

from ziggurat.engine.lettering import drawable, families

DPI = 100
SIDE = 900  # pixels that the matrix has at most, up to rounding; a cell has a whole number of pixels
LARGEST_CELL = 100  # pixels
MOST_CELLS = 250  # in a row; of more classes, neighbours share a cell
NAMED = 45  # up to so many classes are named at the axes, of more classes every second or third or ...
WRITTEN = 15  # up to so many classes have their shares written into the cells
MISTAKES = 25  # of the list beside the matrix
LETTERS = 24  # of a class's name
LETTER = 7  # pixels, the width of a letter
LIST_LETTER, LIST_LINE = 8, 20  # pixels, of the list beside the matrix
GAP = 40  # pixels, between the matrix and the list


def draw_confusion(counts: np.ndarray, names: Sequence[str], what: str = "images") -> Image.Image:
    """The shares of each true class's images (rows) by predicted class (columns), and a list of the worst mistakes.

    Args:
        counts: (K, K) numbers of images. A class may have none.
        names: K names.
        what: was counted.
    """
    fallback = families(names)
    names = [name if len(name) <= LETTERS else name[: LETTERS - 1] + "…" for name in map(drawable, names)]
    group = -(-len(names) // MOST_CELLS)
    shares = shares_of(grouped(counts, group))
    cell = min(LARGEST_CELL, SIDE // len(shares))
    side, margin = cell * len(shares), LETTER * max(map(width_of, names)) + 40
    lines = ["rows: true class; columns: predicted class", *notes(group, what), "", *worst_mistakes(counts, names)]
    width = margin + side + 2 * GAP + LIST_LETTER * max(map(width_of, lines))
    height = margin + max(side, LIST_LINE * len(lines)) + 30
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((margin / width, 1 - (margin + side) / height, side / width, side / height))
    # Most mistakes are rare, so small shares are shown darker than in proportion.
    axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.4, 0, 1), interpolation="nearest")
    axes.xaxis.tick_top()
    step = -(-len(names) // NAMED)
    places = [(i - (group - 1) / 2) / group for i in range(0, len(names), step)]
    style = dict(fontsize=9, parse_math=False, fontfamily=["DejaVu Sans", *fallback])
    axes.set_xticks(places, names[::step], rotation=90, **style)
    axes.set_yticks(places, names[::step], **style)
    if len(names) <= WRITTEN:
        for (row, column), share in np.ndenumerate(shares):
            if share:
                ink = "white" if share > 0.3 else "black"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=10, color=ink)
    place = ((margin + side + GAP) / width, 1 - margin / height)
    style = dict(fontsize=10, parse_math=False, fontfamily=["DejaVu Sans Mono", *fallback])
    figure.text(*place, "\n".join(lines), va="top", linespacing=1.4, **style)
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    canvas.print_png(buffer)
    return Image.open(buffer).convert("RGB")


def width_of(text: str) -> int:
    """The width of a text in letters. Chinese, Japanese and Korean ones are as wide as two others."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def notes(group: int, what: str) -> list[str]:
    """What the colour of a cell stands for."""
    cells = [f"a cell: {group} x {group} neighbouring classes"] if group > 1 else []
    return [*cells, f"colour: share of the row's {what}, 0 to 100 %"]


def grouped(counts: np.ndarray, group: int) -> np.ndarray:
    """The matrix of groups of so many neighbouring classes. The last group may be smaller."""
    starts = np.arange(0, len(counts), group)
    return np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)


def shares_of(counts: np.ndarray) -> np.ndarray:
    """Each row as shares of its sum, 0 in a row without images."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)


def worst_mistakes(counts: np.ndarray, names: Sequence[str]) -> list[str]:
    """Lines for the cells beside the diagonal with the largest shares, largest first."""
    shares = shares_of(counts)
    np.fill_diagonal(shares, 0)
    worst = [divmod(int(i), len(names)) for i in np.argsort(-shares, axis=None, kind="stable")[:MISTAKES]]
    width = max(map(width_of, names))
    padded = [name + " " * (width - width_of(name)) for name in names]
    lines = [f"{100 * shares[i, j]:5.1f} %  {padded[i]}  as {names[j]}" for i, j in worst if shares[i, j]]
    return ["most frequent mistakes:", *lines] if lines else ["no mistakes"]
