"""COCO's metrics for boxes, masks and boundaries, with names for what the data lack, result files and a report."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.fileio import load
from mmengine.logging import MMLogger

from backbones.errors import UserError, shorten, unknown
from backbones.files import write_json
from detection.coco_eval import (
    BACKENDS,
    COCO_AREAS,
    KINDS,
    Curves,
    Rules,
    evaluate,
    source_of,
    twelve_names,
    twelve_numbers,
)
from detection.coco_truth import found_of, results_of, truth_of
from detection.report import write_report
from ziggurat.engine.console import say_note
from ziggurat.engine.own_data.reading import read_json

NO_OBJECTS = "no objects"


@METRICS.register_module()
class FullCocoMetric(CocoMetric):
    """mmdet's CocoMetric with all twelve numbers of COCO. A number of no objects is None, and a note names it.

    The names are ``bbox_mAP``, ``_mAP_50``, ``_mAP_75``, ``_mAP_s``, ``_mAP_m``, ``_mAP_l``, ``_AR@1``, ``_AR@10``,
    ``_AR@100``, ``_AR_s@100``, ``_AR_m@100`` and ``_AR_l@100``, all in 0..1, and the same with ``segm_`` and
    ``boundary_``. Scored are the images of the data set, with its classes, which are found by their names.

    Args:
        ann_file: the annotation file, or None for the annotations that the data set loads.
        metric: one or several of "bbox", "segm" and "boundary". See :func:`detection.coco_eval.evaluate`.
        proposal_nums: numbers of predictions of a class in an image. AP takes the largest, recall takes each.
        iou_thrs: the IoU thresholds; 0.5 to 0.95 by default.
        area_ranges: names of sizes -> (least, largest) area in square pixels, in place of COCO's s, m and l.
        backend: "pycocotools", or "faster-coco-eval", which is to be installed.
        classwise: gives the AP of each class as well.
        outfile_prefix: writes the predictions to ``PREFIX.bbox.json`` and ``PREFIX.segm.json``, as COCO's tools read
            them.
        format_only: writes the predictions and scores nothing.
        report: the folder to write :func:`detection.report.write_report` to.
        metric_items: the numbers to give, such as ("mAP", "AR@100"); all by default.
        **kwargs: as for CocoMetric. ``use_mp_eval`` changes nothing.

    Raises:
        UserError: an option is not allowed; also when the metrics are computed, as :func:`truth_of`, ``found_of`` and
            ``evaluate``.
    """

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = "bbox",
        proposal_nums: Sequence[int] = (1, 10, 100),
        iou_thrs: float | Sequence[float] | None = None,
        area_ranges: Mapping[str, Sequence[float]] | None = None,
        backend: str = BACKENDS[0],
        report: str | None = None,
        metric_items: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        kinds = [metric] if isinstance(metric, str) else list(metric)
        for kind in kinds:
            if kind not in KINDS:
                raise unknown("metric", kind, KINDS)
        if backend not in BACKENDS:
            raise unknown("backend", backend, BACKENDS)
        super().__init__(ann_file, metric="bbox", **kwargs)
        self.ann_file, self.metrics, self.report = ann_file, kinds, report
        self.rules = Rules(
            np.sort(np.atleast_1d(iou_thrs)) if iou_thrs is not None else Rules().iou_thresholds,
            sorted(proposal_nums),
            checked_ranges(COCO_AREAS if area_ranges is None else area_ranges),
            backend,
        )
        known = twelve_names(self.rules)
        for name in metric_items or ():
            if name not in known:
                raise unknown("metric item", name, known)
        self.items = known if metric_items is None else list(metric_items)
        self.noted = False

    def compute_metrics(self, results: list[Any]) -> dict[str, float | None]:
        images, predictions = zip(*results)
        content = self.loaded_truth(images) if self.ann_file is None else read_json(Path(self.ann_file))
        classes = [str(name) for name in self.dataset_meta["classes"]]
        image_ids = [image["img_id"] for image in images]
        with_masks = any(kind != "bbox" for kind in self.metrics)
        # Without scoring, as for a test set that is not published, the file may have no annotations.
        truth = truth_of(content | ({"annotations": []} if self.format_only else {}), classes, image_ids, with_masks)
        found = {"bbox": found_of(predictions, truth, masks=False)}
        if with_masks or "masks" in predictions[0]:
            found["segm"] = found_of(predictions, truth, masks=True)
        if self.outfile_prefix:
            self.write_results(content, classes, image_ids, found)
        if self.format_only:
            return {}
        curves = {kind: evaluate(kind, truth, found[source_of(kind)], self.rules) for kind in self.metrics}
        scored = {kind: twelve_numbers(one) for kind, one in curves.items()}
        numbers = {f"{kind}_{name}": one[name] for kind, one in scored.items() for name in self.items}
        self.tell(numbers, curves, truth, {str(one["name"]) for one in content["categories"]})
        if self.report:
            write_report(Path(self.report), numbers, curves, truth, found)
        if self.classwise:
            for kind, one in curves.items():
                aps = {f"{kind}_{name}_AP": one.average_precision(category=i) for i, name in enumerate(classes)}
                numbers |= {name: value for name, value in aps.items() if value is not None}
        return numbers

    def loaded_truth(self, images: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The annotations that the data set loaded, as the content of a COCO file."""
        with tempfile.TemporaryDirectory() as folder:
            return load(self.gt_to_coco_json(images, f"{folder}/truth"))

    def write_results(
        self, content: dict[str, Any], classes: list[str], image_ids: list[Any], found: dict[str, list[dict]]
    ) -> None:
        by_name = {str(one["name"]): one["id"] for one in content["categories"]}
        lacking = [name for name in classes if name not in by_name]
        if lacking:
            raise UserError(f"the annotation file has no category for the classes {shorten(lacking)}; none is written")
        for kind, rows in found.items():
            results = results_of(rows, image_ids, [by_name[name] for name in classes], masks=kind == "segm")
            write_json(f"{self.outfile_prefix}.{kind}.json", results)

    def tell(
        self, numbers: dict[str, Any], curves: dict[str, Curves], truth: dict[str, Any], categories: set[str]
    ) -> None:
        """Logs all numbers. The first time, a note names the sizes and classes without objects."""
        lines = [f"{name}: {NO_OBJECTS if value is None else f'{value:.4f}'}" for name, value in numbers.items()]
        MMLogger.get_current_instance().info(f"COCO's metrics by {self.rules.backend}\n" + "\n".join(lines))
        if self.noted:
            return
        self.noted = True
        curve = next(iter(curves.values()))
        sizes = [name for i, name in enumerate(self.rules.areas) if curve.average_recall(size=i + 1) is None]
        present = {one["category_id"] for one in truth["annotations"] if not one["iscrowd"]}
        without = [one["name"] for one in truth["categories"] if one["id"] not in present]
        if sizes:
            say_note(f"{NO_OBJECTS} of the sizes {', '.join(sizes)} in the ground truth; these have no AP")
        if without:
            total = len(truth["categories"])
            say_note(f"{NO_OBJECTS} of {len(without)} of {total} classes in the ground truth: {shorten(without, 10)}")
        unknown_names = [name for name in without if name not in categories]
        if unknown_names:
            say_note(f"the annotation file has no category for the classes {shorten(unknown_names, 10)}")


def checked_ranges(ranges: Any) -> dict[str, tuple[float, float]]:
    """``area_ranges`` as tuples; UserError for anything but names and two ascending areas each."""
    if isinstance(ranges, Mapping) and all(map(is_range, ranges.values())):
        return {str(name): (float(least), float(largest)) for name, (least, largest) in ranges.items()}
    raise UserError(
        f"area_ranges={ranges!r}; allowed: names with the least and largest area in square pixels, "
        "e.g. {'tiny': (0, 256), 'rest': (256, 1e10)}"
    )


def is_range(area: Any) -> bool:
    """Whether this is a pair of numbers, the smaller one first."""
    pair = list(area) if isinstance(area, list | tuple) else []
    return len(pair) == 2 and all(isinstance(one, int | float) for one in pair) and 0 <= pair[0] < pair[1]
