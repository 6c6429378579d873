"""The page of a classifier's test: accuracy, the figures of the classes, and which class is taken for which."""

import csv
from pathlib import Path
from typing import Any

from classification.imagenet import word_of
from ziggurat.engine.pages.content import Page, Table
from ziggurat.engine.pages.report import chart_in

HEADLINES = {
    "top1": "top-1, %",
    "top5": "top-5, %",
    "mean_class_top1": "mean of the classes' top-1, %",
    "ece": "calibration error, %",
    "images": "images",
}


def report_page(content: dict[str, Any], folder: Path) -> Page:
    """As :meth:`ziggurat.engine.task_views.TaskViews.report_page`. An image of several right classes is in no table."""
    has_classes = "mean_class_top1" in content
    chart = chart_in(folder, "confusion.png", "confusion matrix of the images") if has_classes else None
    rows = class_rows(folder / "per_class.csv") if has_classes else []
    columns = [name.replace("_", " ") for name in rows[0]] if rows else []
    bins = [
        [f"{row['above']:.2f} to {row['up_to']:.2f}", row["images"], row["confidence"], row["accuracy"]]
        for row in content["reliability"]
    ]
    classes = list(dict.fromkeys(word_of(row["class"]) for row in rows))
    return Page(
        title="Test of a classifier",
        intro="The worst images are wrong with the highest scores. The best ones are right with the highest scores.",
        facts={label: content[name] for name, label in HEADLINES.items() if name in content},
        charts=[chart] if chart else [],
        tables=[
            *([Table("Classes, figures in %", columns, [list(row.values()) for row in rows])] if rows else []),
            Table("Calibration", ["score", "images", "mean score", "share of right images"], bins),
        ],
        filters={"answer": ["wrong", "right"], "true class": classes, "predicted class": classes},
    )


def class_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of ``per_class.csv`` with numbers as such, the class by its words, and no column that is empty."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    filled = [name for name in rows[0] if any(row[name] for row in rows)]
    return [{name: cell_of(name, row[name]) for name in filled} for row in rows]


def cell_of(name: str, text: str) -> Any:
    if name in ("class", "description", "mistaken_for"):
        return text
    return (int(text) if text.isdecimal() else float(text)) if text else None
