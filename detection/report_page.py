"""The page of a detector's test: AP or PQ, what each kind of error costs, and the classes."""

from pathlib import Path
from typing import Any

from backbones.errors import shorten
from detection.errors import ERRORS
from detection.extremes import NO_ERROR
from ziggurat.engine.pages.content import Page, Table
from ziggurat.engine.pages.report import chart_in, dict_table

HEADLINES = {
    "bbox_mAP": "box AP",
    "bbox_mAP_50": "box AP50",
    "segm_mAP": "mask AP",
    "segm_mAP_50": "mask AP50",
    "PQ": "PQ, %",
    "SQ": "SQ, %",
    "RQ": "RQ, %",
}
LISTED = 20  # classes that a note names
SOURCES = {"bbox": "boxes", "segm": "masks"}


def report_page(content: dict[str, Any], folder: Path) -> Page:
    """As :meth:`ziggurat.engine.task_views.TaskViews.report_page`; of boxes, masks or panoptic segments."""
    metrics, is_panoptic = content["metrics"], "PQ" in content["metrics"]
    facts = {label: metrics[name] for name, label in HEADLINES.items() if metrics.get(name) is not None}
    facts |= {name: content[name] for name in ("images", "objects") if name in content}
    errors = content.get("errors") or {}
    tables = [error_table(rows, SOURCES.get(source, source)) for source, rows in errors.items()]
    charts = [chart_in(folder, f"errors_{source}.png", f"errors of {SOURCES.get(source, source)}") for source in errors]
    without = content.get("no_objects") or content.get("absent") or []
    order = "PQ" if is_panoptic else "F1 score of boxes at IoU 0.5"
    kinds = ["missed", "extra"] if is_panoptic else list(ERRORS)
    return Page(
        title="Test of a detector",
        intro=f"Images are ordered by their {order}. The ground truth stands beside the prediction.",
        facts=facts,
        notes=[f"Not in the ground truth, and so without figures: {shorten(without, LISTED)}"] if without else [],
        charts=[chart for chart in charts if chart],
        tables=[
            *tables,
            dict_table("Classes", [readable(row) for row in content["classes"]]),
            Table("All figures", ["figure", "value"], list(metrics.items()), folded=True),
        ],
        filters={"error": [*kinds, NO_ERROR], "class": [row["class"] for row in content["classes"]]},
    )


def error_table(rows: list[dict[str, Any]], what: str) -> Table:
    """What each kind of error costs, the dearest first."""
    rows = sorted(rows, key=lambda row: -row["AP50_lost"])
    columns = ["error", "times", "AP50 lost, in points", "what it is"]
    cells = [[row["error"], row["count"], round(100 * row["AP50_lost"], 2), row["meaning"]] for row in rows]
    return Table(f"Errors of {what}", columns, cells)


def readable(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a class, with blanks in the names of its columns, and without the counts of errors."""
    kept = {name: value for name, value in row.items() if not name.endswith(tuple(f"_{error}" for error in ERRORS))}
    return {name.replace("bbox_", "box ").replace("segm_", "mask ").replace("_", " "): kept[name] for name in kept}
