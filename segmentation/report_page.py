"""The page of a segmenter's test: mIoU, the figures of the classes, and which class is taken for which."""

from pathlib import Path
from typing import Any

from backbones.errors import shorten
from ziggurat.engine.pages.content import Page
from ziggurat.engine.pages.report import chart_in, dict_table

LISTED = 20  # classes that a note names


def report_page(content: dict[str, Any], folder: Path) -> Page:
    """As :meth:`ziggurat.engine.task_views.TaskViews.report_page`."""
    metrics = {f"{name}, %": value for name, value in content["metrics"].items() if value is not None}
    first = {name: metrics.pop(name) for name in ("mIoU, %", "mAcc, %", "aAcc, %") if name in metrics}
    chart, absent = chart_in(folder, "confusion.png", "confusion matrix of the pixels"), content["absent"]
    rows = [{name.replace("_", " "): value for name, value in row.items()} for row in content["classes"]]
    return Page(
        title="Test of a segmenter",
        intro="Images are ordered by the mean IoU of their classes. The ground truth stands beside the prediction.",
        facts={**first, **metrics, "images": content["images"]},
        notes=[f"Not in the ground truth: {shorten(absent, LISTED)}"] if absent else [],
        charts=[chart] if chart else [],
        tables=[dict_table("Classes, figures in %", rows)],
        filters={"class": [row["class"] for row in content["classes"]]},
    )
