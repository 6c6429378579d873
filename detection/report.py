"""The report of a test: a table of the classes, and the errors as a table and a picture."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbones.files import replaced_file, write_json
from detection.coco_eval import Curves, source_of
from detection.error_chart import draw_errors
from detection.errors import ERRORS, Errors, errors_of
from ziggurat.engine.tables import write_dicts

DIGITS = 4


def write_report(
    folder: Path,
    numbers: dict[str, float | None],
    curves: dict[str, Curves],
    truth: dict[str, Any],
    found: dict[str, Sequence[dict[str, Any]]],
) -> None:
    """Writes the report of an evaluation.

    ``report.json`` has the numbers, how they were counted, and all tables. ``per_class.csv`` has a row for each class;
    a figure of no objects is empty there, and null in JSON. ``errors_bbox.csv`` and ``errors_segm.csv`` have a row for
    each kind of error, the pictures of the same names show them.

    Args:
        folder: is made.
        numbers: the metrics.
        curves: of each kind of metric.
        truth: from ``coco_truth.truth_of``.
        found: from ``coco_truth.found_of``, by ``source_of`` the kind.
    """
    rules = next(iter(curves.values())).rules
    errors = {
        source: errors_of(truth, found[source], rules.max_dets[-1], masks=source == "segm")
        for source in dict.fromkeys(map(source_of, curves))
    }
    classes = class_rows(truth, curves, errors)
    tables = {source: error_rows(one) for source, one in errors.items()}
    write_dicts(folder / "per_class.csv", classes)
    for source, rows in tables.items():
        write_dicts(folder / f"errors_{source}.csv", rows)
        with replaced_file(folder / f"errors_{source}.png") as beside:
            draw_errors(rows).save(beside, "PNG")
    content = {
        "images": len(truth["images"]),
        "objects": sum(row["objects"] for row in classes),
        "metrics": numbers,
        "no_objects": [row["class"] for row in classes if not row["objects"]],
        "backend": rules.backend,
        "iou_thresholds": [round(float(iou), DIGITS) for iou in rules.iou_thresholds],
        "max_dets": list(rules.max_dets),
        "area_ranges": {name: list(area) for name, area in rules.areas.items()},
        "classes": classes,
        "errors": tables,
    }
    write_json(folder / "report.json", content)


def class_rows(truth: dict[str, Any], curves: dict[str, Curves], errors: dict[str, Errors]) -> list[dict[str, Any]]:
    """A row for each class: objects, images with such objects, AP and recall of each kind, and the counts of errors.

    ``recall50`` is the share of objects that any of the predictions finds at IoU 0.5. ``AR`` is COCO's average recall.
    """
    objects = [one for one in truth["annotations"] if not one["iscrowd"]]
    counts = Counter(one["category_id"] for one in objects)
    images = Counter(category for category, _ in {(one["category_id"], one["image_id"]) for one in objects})
    wrong = {source: one.by_category() for source, one in errors.items()}
    rows = []
    for i, category in enumerate(truth["categories"]):
        row = {"class": category["name"], "objects": counts[i + 1], "images": images[i + 1]}
        for kind, one in curves.items():
            figures = {
                "AP": one.average_precision(category=i),
                "AP50": one.average_precision(0.5, category=i),
                "AP75": one.average_precision(0.75, category=i),
                "recall50": one.average_recall(0.5, category=i),
                "AR": one.average_recall(category=i),
            }
            row |= {
                f"{kind}_{name}": None if value is None else round(value, DIGITS) for name, value in figures.items()
            }
        for source, one in wrong.items():
            row |= {f"{source}_{name}": one[name, i + 1] for name in ERRORS}
        rows.append(row)
    return rows


def error_rows(errors: Errors) -> list[dict[str, Any]]:
    """A row for each kind of error: how often it was made, and how much AP at IoU 0.5 it costs."""
    gains = errors.gains()
    return [
        {"error": name, "count": errors.count(name), "AP50_lost": round(gains[name], DIGITS), "meaning": meaning}
        for name, meaning in ERRORS.items()
    ]
