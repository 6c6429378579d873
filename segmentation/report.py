"""The report of a test: a table of the classes, and the confusion of their pixels as a table and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backbones.files import replaced_file, write_json
from ziggurat.engine.confusion import draw_confusion
from ziggurat.engine.tables import write_csv, write_dicts

DIGITS = 3


def write_report(
    folder: Path,
    classes: Sequence[str],
    counts: np.ndarray,
    figures: dict[str, np.ndarray],
    numbers: dict[str, float | None],
    images: int,
) -> None:
    """Writes the report of an evaluation.

    ``report.json`` has the figures of the whole set and the table. ``per_class.csv`` has a row for each class; a figure
    that is not defined is empty there, and null in JSON. ``confusion.csv`` counts pixels, a row for each true class and
    a column for each predicted class. ``confusion.png`` shows the shares.

    Args:
        folder: is made.
        classes: K names.
        counts: (K, K) pixels of a true class (row) and a predicted class (column).
        figures: (K,) for each figure of a class, in percent; nan: not defined.
        numbers: the figures of the whole set.
        images: their number.
    """
    rows = class_rows(classes, counts, figures)
    write_dicts(folder / "per_class.csv", rows)
    named = zip(classes, counts.tolist())
    write_csv(folder / "confusion.csv", [["true", *classes], *([name, *cells] for name, cells in named)])
    with replaced_file(folder / "confusion.png") as beside:
        draw_confusion(counts, classes, "pixels").save(beside, "PNG")
    absent = [row["class"] for row in rows if not row["pixels"]]
    write_json(folder / "report.json", {"images": images, "metrics": numbers, "absent": absent, "classes": rows})


def class_rows(classes: Sequence[str], counts: np.ndarray, figures: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """A row for each class: pixels of it and predicted as it, its figures, and the class most often taken for it.

    ``mistaken_for`` is the class that most of its pixels are mistaken for, and ``mistaken_percent`` their share.
    """
    rows = []
    for i, name in enumerate(classes):
        pixels, wrong = int(counts[i].sum()), counts[i].copy()
        wrong[i] = 0
        other = int(wrong.argmax())
        values = {key: None if np.isnan(one[i]) else round(float(one[i]), DIGITS) for key, one in figures.items()}
        rows.append(
            {
                "class": name,
                "pixels": pixels,
                "predicted": int(counts[:, i].sum()),
                **values,
                "mistaken_for": classes[other] if wrong[other] else None,
                "mistaken_percent": round(100 * int(wrong[other]) / pixels, DIGITS) if wrong[other] else None,
            }
        )
    return rows
