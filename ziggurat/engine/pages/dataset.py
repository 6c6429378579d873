"""The page of a data set: what is in it, and some of its images before and after the pipeline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backbones.errors import shorten
from ziggurat.engine.pages.charts import draw_counts, draw_distribution, draw_ratios, draw_sizes
from ziggurat.engine.pages.content import Card, Page, Picture, Table
from ziggurat.engine.pages.page import save_chart, write_page
from ziggurat.engine.task_views import DataStatistics

CHARTS = "statistics"  # the folder of the charts beside the page
CLASS = "class"  # the filter
FILTERED = 100  # of more classes, the filter has those alone that are on the page


def write_dataset_page(
    folder: Path,
    title: str,
    facts: Mapping[str, Any],
    found: DataStatistics,
    cards: Sequence[Card],
    failed: Sequence[str],
) -> Path:
    """Writes the page of a data set, and returns its path.

    Args:
        folder: of the page, which exists. It has the pictures of the cards.
        title: of the page.
        facts: what stands first, before the numbers of the statistics.
        found: what is in the data set.
        cards: of the images that are shown. Their marks name classes under ``CLASS``.
        failed: the errors of images that were to be shown.
    """
    charts = [save_chart(image, folder, f"{CHARTS}/{name}.png", label) for name, label, image in charts_of(found)]
    on_page = {name for card in cards for name in card.marks.get(CLASS, ())}
    classes = list(dict.fromkeys(found.classes))
    page = Page(
        title=title,
        intro="What is in the data, and images with their annotations beside what the network is given.",
        facts={**facts, **facts_of(found)},
        notes=notes_of(found, failed),
        charts=charts,
        tables=[class_table(found)] if len(classes) else [],
        galleries={f"{len(cards)} of {found.images} images": cards},
        filters={CLASS: [name for name in classes if len(classes) <= FILTERED or name in on_page]} if classes else {},
    )
    return write_page(folder, page)


def charts_of(found: DataStatistics) -> list[tuple[str, str, Image.Image]]:
    """Name, description and picture of each chart that there are numbers for."""
    charts = []
    if len(found.sizes):
        charts.append(("image_sizes", "widths and heights of the images", draw_sizes(found.sizes)))
        charts.append(("aspect_ratios", "aspect ratios of the images", draw_ratios(found.sizes)))
    for i, (title, (values, of)) in enumerate(found.distributions.items(), 1):
        if len(values) and values.min() < values.max():
            charts.append((f"distribution_{i}", f"histogram: {title}", draw_distribution(values, of, title)))
    if found.counts.any():  # the last one, since it may be long
        title = f"{found.unit} of each class"
        charts.append(("class_counts", title, draw_counts(list(found.classes), found.counts, title)))
    return charts


def facts_of(found: DataStatistics) -> dict[str, Any]:
    """The numbers at the top of the page."""
    facts: dict[str, Any] = {"images": found.images}
    if len(found.classes):
        facts["classes"] = len(found.classes)
    if found.unit != "images":
        facts[found.unit] = int(found.counts.sum())
    facts |= {name: value for name, value in found.figures.items() if value}
    if len(found.sizes):
        for name, sides in zip(("image width", "image height"), found.sizes.T, strict=True):
            least, most = int(sides.min()), int(sides.max())
            facts[name] = least if least == most else f"{least} to {most}"
    return facts


def notes_of(found: DataStatistics, failed: Sequence[str]) -> list[str]:
    """What the reader should know about the numbers, and what is missing."""
    notes = []
    if found.counted < found.images:
        notes.append(f"The numbers of {found.unit} are of {found.counted} of the {found.images} images, evenly spread.")
    if len(found.sizes) not in (0, found.images) and len(found.sizes) != found.counted:
        notes.append(f"The sizes are of {len(found.sizes)} of the {found.images} images, evenly spread.")
    without = [name for name, count in zip(found.classes, found.counts, strict=True) if not count]
    if without and found.images:
        where = "" if found.counted == found.images else " in the images that were looked at"
        share = f"{len(without)} of {len(found.classes)}"
        notes.append(f"Classes without {found.unit}{where}, {share}: {shorten(without, 10)}")
    lost = list(dict.fromkeys(text.partition(";")[0] for text in (*failed, *found.unreadable)))
    if lost:
        notes.append(f"Left out, since files cannot be read, {len(lost)}: {shorten(lost, 10)}")
    return notes


def class_table(found: DataStatistics) -> Table:
    """A row for each class, the most frequent first."""
    total = int(found.counts.sum()) or 1
    columns = ["class", *([found.unit] if found.unit != "images" else []), "images", f"% of {found.unit}"]
    rows = []
    for i in np.argsort(-found.counts, kind="stable").tolist():
        count = int(found.counts[i])
        own = [count] if found.unit != "images" else []
        rows.append([found.classes[i], *own, int(found.class_images[i]), round(100 * count / total, 2)])
    return Table("Classes", columns, rows)


def card_of(name: str, pictures: Sequence[Picture], lines: Sequence[str], classes: Sequence[str]) -> Card:
    """The card of an image with its classes."""
    return Card(name, pictures, lines, {CLASS: list(classes)})
