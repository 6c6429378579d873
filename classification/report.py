"""The report of a test: a table of the classes, the confusion matrix as CSV and as a picture, and the calibration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict

from backbones.files import replaced_file, write_json
from classification.imagenet import descriptions, word_of
from classification.metrics import ScoredImages, calibration_error, reliability
from ziggurat.engine.confusion import draw_confusion, shares_of
from ziggurat.engine.tables import write_csv

TOP = 5
COLUMNS = ("class", "description", "images", "top1", "top5", "precision", "mistaken_for", "mistaken_percent")


class Report(ScoredImages):
    """Writes the report of a test, and gives ``mean_class_top1``: the mean of the classes' accuracies, in percent.

    Of five classes or fewer there is no ``top5``, since every answer would be right.

    ``report.json`` has the figures of the whole set, and the bins of the calibration error. ``per_class.csv`` has a row
    for each class. ``confusion.csv`` counts images, a row for each true class and a column for each predicted class.
    ``confusion.png`` shows the shares. Images with several right classes have no place in the last three files.

    Args:
        folder: where the files are written.
        classes: the names of the model's classes, by index.
        bins: as for ``CalibrationError``.
        subset: as for ``ScoredImages``.
    """

    def __init__(self, folder: str | Path, classes: Sequence[str], bins: int = 15, **kwargs: Any):
        super().__init__(**kwargs)
        self.folder = Path(folder)
        self.classes = [str(name) for name in classes]
        self.bins = bins

    def entries(self, data_samples: Sequence[dict[str, Any]]) -> list[tuple[int, int, float, bool, bool]]:
        scores, truth = self.scored(data_samples)
        confidence, best = scores.max(dim=1)
        order = scores.topk(min(TOP, scores.shape[1]), dim=1).indices
        hits = truth.gather(1, order)
        labels = [sample["label"] for sample in data_samples]
        rows = zip(labels, best.tolist(), confidence.tolist(), hits[:, 0].tolist(), hits.any(1).tolist(), strict=True)
        return list(rows)

    def figures(self, results: list[tuple[int, int, float, bool, bool]], unreadable: int) -> dict[str, float]:
        labels, best, confidence, right, near = (np.array(column) for column in zip(*results, strict=True))
        bins = reliability(torch.tensor(confidence), torch.tensor(right), self.bins)
        shown = range(len(self.classes)) if self.subset is None else self.subset.tolist()
        summary = {
            "images": len(results),
            "top1": 100 * float(right.mean()),
            **({"top5": 100 * float(near.mean())} if len(shown) > TOP else {}),
            "ece": calibration_error(bins),
        }
        metrics = {}
        if not (self.dataset_meta or {}).get("label_sets"):
            names = [self.classes[i] for i in shown]
            counts = confusion(labels, best, len(self.classes))[np.ix_(shown, shown)]
            rows = class_rows(names, counts, np.bincount(labels, near, len(self.classes))[shown])
            metrics["mean_class_top1"] = 100 * float(shares_of(counts).diagonal()[counts.sum(axis=1) > 0].mean())
            write_csv(self.folder / "per_class.csv", [COLUMNS, *([row[name] for name in COLUMNS] for row in rows)])
            write_csv(self.folder / "confusion.csv", [["true", *names], *map(row_of, names, counts.tolist())])
            with replaced_file(self.folder / "confusion.png") as beside:
                draw_confusion(counts, [word_of(name) for name in names]).save(beside, "PNG")
        write_json(self.folder / "report.json", summary | metrics | {"reliability": bins})
        return metrics


def confusion(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """(num_classes, num_classes) int64: the number of images of a true class (row) and a predicted class (column)."""
    cells = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def class_rows(names: Sequence[str], counts: np.ndarray, near: np.ndarray) -> list[dict[str, Any]]:
    """A row of the table for each class, by ``COLUMNS``. A figure of no images is None.

    Args:
        names: of the K classes.
        counts: (K, K), from :func:`confusion`.
        near: (K,), the number of images of a class that have it among the best five.
    """
    rows = []
    for i, name in enumerate(names):
        images, predicted = int(counts[i].sum()), int(counts[:, i].sum())
        wrong = np.where(np.arange(len(names)) == i, 0, counts[i])
        other = int(wrong.argmax())
        rows.append(
            {
                "class": name,
                "description": descriptions().get(name, ""),
                "images": images,
                "top1": percent(counts[i, i], images),
                "top5": percent(near[i], images) if len(names) > TOP else None,
                "precision": percent(counts[i, i], predicted),
                "mistaken_for": names[other] if wrong[other] else None,
                "mistaken_percent": percent(wrong[other], images) if wrong[other] else None,
            }
        )
    return rows


def percent(part: float, whole: int) -> float | None:
    return round(100 * float(part) / whole, 3) if whole else None


def row_of(name: str, cells: list[int]) -> list[Any]:
    return [name, *cells]


def use_report(cfg: Any, folder: str | Path, classes: Sequence[str]) -> None:
    """Makes a config's test write a report, in place; arguments as for :class:`Report`."""
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, list | tuple) else [cfg.test_evaluator]
    cfg.test_evaluator = [*metrics, ConfigDict(type="Report", folder=str(folder), classes=list(classes))]
