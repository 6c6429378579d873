"""Charts of numbers of a data set, drawn with matplotlib: sizes, distributions, and counts of classes."""

import io
import textwrap
from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ziggurat.engine.lettering import drawable, font_file

DPI = 200
WIDTH, HEIGHT = 4.1, 2.9  # inches
BLUE, RED = "#4a7ebb", "#c0281f"
BINS = 40  # of a histogram of many different values
TITLE = 42  # letters of a line of a title
TOP = 50  # classes that have a bar of their own
BAR, LETTERS = 0.2, 24  # inches of a bar's row, letters of a name
RATIOS = {1 / 8: "1:8", 1 / 4: "1:4", 1 / 2: "1:2", 1: "1:1", 2: "2:1", 4: "4:1", 8: "8:1"}  # width : height


def draw_sizes(sizes: np.ndarray) -> Image.Image:
    """A dot for each size of images, the larger the more images have it, RGB. ``sizes``: (N, 2), width and height."""
    figure, axes = panel("image sizes, in pixels")
    different, counts = np.unique(sizes, axis=0, return_counts=True)
    axes.scatter(*different.T, s=20 + 380 * counts / counts.max(), color=BLUE, alpha=0.5, linewidths=0)
    axes.set_xlim(0, 1.15 * different[:, 0].max())
    axes.set_ylim(0, 1.15 * different[:, 1].max())
    most = counts.argmax()
    often = f"{different[most][0]} x {different[most][1]}"
    words = f"{len(different)} sizes, most often {often}" if len(different) > 1 else f"all {often}"
    axes.set_xlabel(f"width  ({words})", fontsize=9)
    axes.set_ylabel("height", fontsize=9)
    return drawn(figure)


def draw_ratios(sizes: np.ndarray) -> Image.Image:
    """A histogram of width : height, RGB. ``sizes``: (N, 2), width and height."""
    figure, axes = panel("aspect ratios, width : height")
    logs = np.log2(sizes[:, 0] / sizes[:, 1])
    reach = max(1.0, float(np.abs(logs).max()) * 1.05)
    axes.hist(logs, bins=BINS, range=(-reach, reach), color=BLUE)
    ticks = [ratio for ratio in RATIOS if abs(np.log2(ratio)) <= reach]
    axes.set_xticks(np.log2(ticks), [RATIOS[ratio] for ratio in ticks])
    axes.set_ylabel("images", fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return drawn(figure)


def draw_distribution(values: np.ndarray, of: str, title: str) -> Image.Image:
    """A histogram of one number or more, RGB. Few different whole numbers have a bar each. ``of``: what is counted."""
    figure, axes = panel(title)
    whole = np.issubdtype(values.dtype, np.integer)
    spread = int(values.max() - values.min()) if whole else 0
    if whole and spread < BINS:
        bins = np.arange(values.min(), values.max() + 2) - 0.5
    else:  # of whole numbers each bar has equally many, so that no comb shows
        step = -(-spread // BINS) if whole else 0
        bins = np.arange(values.min(), values.max() + step + 1, step) if whole else BINS
    axes.hist(values, bins=bins, color=BLUE, rwidth=0.9)
    largest = f"{values.max()}" if whole else f"{values.max():.3g}"
    axes.set_xlabel(f"mean {values.mean():.3g}, median {np.median(values):.3g}, largest {largest}", fontsize=9)
    axes.set_ylabel(of, fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    if whole and spread < 12:
        axes.set_xticks(np.unique(np.arange(values.min(), values.max() + 1)))
    return drawn(figure)


def draw_counts(names: Sequence[str], counts: np.ndarray, title: str, marked: Collection[str] = ()) -> Image.Image:
    """A bar for each of the most frequent classes, and the sum of the others as a number, RGB.

    Args:
        names: K names, of any alphabet.
        counts: (K,).
        title: above the bars.
        marked: names in red, which come first.
    """
    is_marked = np.array([name in marked for name in names], bool)
    order = np.lexsort((-counts, ~is_marked))
    shown, rest = order[:TOP], order[TOP:]
    words = [name if len(name) <= LETTERS else name[: LETTERS - 1] + "…" for name in (names[i] for i in shown)]
    values = counts[shown].tolist()
    longest = max(values)
    if len(rest):  # their sum may be larger than any bar, which would hide the bars' differences
        words, values = [*words, f"{len(rest)} other classes"], [*values, 0]
    figure, axes = panel(title, max(1.6, 0.7 + BAR * len(words)))
    axes.barh(range(len(words)), values, color=BLUE, height=0.75)
    axes.set_ylim(len(words) - 0.4, -0.6)
    axes.set_yticks(range(len(words)), [drawable(word) for word in words], fontsize=8.5, parse_math=False)
    for row, (label, word) in enumerate(zip(axes.get_yticklabels(), words, strict=True)):
        label.set_color(RED if row < len(shown) and is_marked[shown[row]] else "black")
        file = font_file(word)
        if file is not None:
            label.set_fontproperties(FontProperties(fname=str(file), size=8.5))
    axes.set_xlim(0, (longest or 1) * 1.18)
    for row, value in enumerate(values):
        text = brief(value) if row < len(shown) else f"{brief(counts[rest].sum())} together"
        axes.annotate(text, (value, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: brief(value))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return drawn(figure)


def brief(value: float) -> str:
    """A count in at most five characters, such as 8421, 52k and 3.1M."""
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= least:
            scaled = value / (1e3 if unit == "k" else least)
            return f"{scaled:.3g}{unit}" if scaled < 999.5 else f"{scaled:.0f}{unit}"
    return f"{value:.6g}"


def panel(title: str, height: float = HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(textwrap.fill(title, TITLE), fontsize=10)
    axes.tick_params(labelsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def drawn(figure: Figure) -> Image.Image:
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    canvas.print_png(buffer)
    return Image.open(buffer).convert("RGB")
