"""The picture of a detector's errors: what each kind costs, and how often it was made."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI, WIDTH, ROW = 100, 1000, 52  # pixels
LEFT, RIGHT, HEAD, FOOT = 130, 90, 60, 50  # pixels around a panel
BLUE, GREY = "#4a7ebb", "#9a9a9a"


def draw_errors(rows: Sequence[dict[str, Any]]) -> Image.Image:
    """Two panels of bars, RGB; ``rows`` from ``report.error_rows``."""
    height = HEAD + ROW * len(rows) + FOOT
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI)
    names = [row["error"] for row in rows]
    panels = (
        ("AP50_lost", "lost AP at IoU 0.5, in points", 100, "{:.1f}", BLUE),
        ("count", "number of errors", 1, "{:.0f}", GREY),
    )
    width = (WIDTH - LEFT - 2 * RIGHT) / 2
    for i, (key, title, factor, form, colour) in enumerate(panels):
        left = LEFT + i * (width + RIGHT)
        axes = figure.add_axes((left / WIDTH, FOOT / height, width / WIDTH, ROW * len(rows) / height))
        values = [factor * row[key] for row in rows]
        axes.barh(range(len(rows)), values, color=colour)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), names if i == 0 else [""] * len(rows))
        axes.set_xlim(0, max(values) or 1)
        axes.set_title(title, fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        for row, value in enumerate(values):
            axes.annotate(
                form.format(value), (value, row), (5, 0), textcoords="offset points", va="center", fontsize=10
            )
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    canvas.print_png(buffer)
    return Image.open(buffer).convert("RGB")
