"""Panoptic quality of each class, with names for what the data lack, and a report."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.evaluation import INSTANCE_OFFSET, CocoPanopticMetric
from mmdet.evaluation.functional import pq_compute_single_core
from mmdet.registry import METRICS

from backbones.errors import UserError, shorten
from backbones.files import write_json
from detection.panoptic import naming_map
from detection.panoptic_entries import map_names, things_first
from detection.panoptic_quality import PQStat
from ziggurat.engine.console import say_note
from ziggurat.engine.tables import write_dicts

GROUPS = {"": None, "_th": True, "_st": False}  # what ends the name of a metric: all, things, stuff
DIGITS = 3


@METRICS.register_module()
class FullCocoPanopticMetric(CocoPanopticMetric):
    """mmdet's CocoPanopticMetric, whose numbers are None where no class of a group occurs.

    The names are ``PQ``, ``SQ`` and ``RQ``, in percent, and the same with ``_th`` for things and ``_st`` for stuff. A
    mean is that of the classes that occur in the ground truth or in the predictions. The first time, a note names the
    classes that the ground truth lacks.

    Args:
        report: the folder to write ``report.json`` and ``per_class.csv`` to, which have a row for each class.
        **kwargs: as for CocoPanopticMetric. With ``outfile_prefix`` the predictions are written as
            ``PREFIX.panoptic.json`` and maps in the folder ``PREFIX.panoptic``.

    Raises:
        UserError: there is ``outfile_prefix``, but no ``ann_file``; also when predictions come that have a class which
            the data lack.
    """

    def __init__(self, *args: Any, report: str | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.tmp_dir is None and self._coco_api is None:
            raise UserError("panoptic predictions are written with the ids of an annotation file; set ann_file")
        if self._coco_api is not None:
            self._coco_api.dataset["categories"] = things_first(self._coco_api.dataset["categories"])
            self.map_names = map_names(self._coco_api.dataset)
        self.report = report
        self.noted = False

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        void = len(self.dataset_meta["classes"])  # the label of pixels without a segment
        for sample in data_samples:
            label = int((sample["pred_panoptic_seg"]["sem_seg"] % INSTANCE_OFFSET).max())
            if label > void and label != sample["pred_panoptic_seg"].get("ignore_index"):
                raise UserError(
                    f"the model predicts class {label}, counted from 0, and the data have {void} classes; "
                    "allowed: a checkpoint and data with the same classes"
                )
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list[Any]) -> dict[str, float | None]:
        if self.tmp_dir is None:
            self.write_results(results)
            if self.format_only:
                return {}
        stat = PQStat()
        for one in self.scored_files(results) if self.tmp_dir is None else results:
            stat += one
        if self._coco_api is None:
            things = self.dataset_meta["thing_classes"]
            names = enumerate(self.dataset_meta["classes"])
            self.categories = {i: dict(id=i, name=name, isthing=int(name in things)) for i, name in names}
        numbers = {}
        for end, group in GROUPS.items():
            means, _ = stat.pq_average(self.categories, group)
            numbers |= {f"{key.upper()}{end}": percent(means[key]) for key in ("pq", "sq", "rq")}
        rows = class_rows(stat, self.categories)
        absent = [row["class"] for row in rows if not row["segments"]]
        if absent and not self.noted:
            say_note(f"not in the ground truth: {len(absent)} of {len(rows)} classes: {shorten(absent, 10)}")
        self.noted = True
        if self.report:
            write_dicts(Path(self.report) / "per_class.csv", rows)
            content = {"images": len(results), "metrics": numbers, "absent": absent, "classes": rows}
            write_json(Path(self.report) / "report.json", content)
        return numbers

    def _parse_predictions(self, pred: dict[str, Any], img_id: Any, segm_file: str, label2cat: Any = None) -> dict:
        """A prediction's segments, and its map in a file, by mmdet's method.

        mmdet names the file by the image without its folder, and changes the prediction. Here images of one name in two
        folders have a map each, and the prediction stays.
        """
        if self._coco_api is not None:
            image = Path(self._coco_api.imgs[img_id]["file_name"])
            parts = image.with_suffix(".png").parts
            segm_file = "_".join(part for part in parts if part not in (image.anchor, ".."))  # a name, and no path
        found = pred["pred_panoptic_seg"]
        pred = {**pred, "pred_panoptic_seg": {**found, "sem_seg": found["sem_seg"].clone()}}
        return super()._parse_predictions(pred, img_id, segm_file, label2cat)

    def write_results(self, results: list[Any]) -> None:
        """Writes the predictions by mmdet's method. Their categories become the ids of the annotation file."""
        scoring, self.format_only = self.format_only, True
        try:
            super().compute_metrics(results)
        finally:
            self.format_only = scoring

    def scored_files(self, results: list[Any]) -> list[PQStat]:
        """The matches of predictions that :meth:`write_results` has written."""
        return [self.matches(given["image_id"], found) for given, found in results]

    def _compute_batch_pq_stats(self, data_samples: Sequence[dict[str, Any]]) -> None:
        """Adds the matches of predictions. mmdet looks for a map by the name of the image, without its folder."""
        if self._coco_api is None:
            super()._compute_batch_pq_stats(data_samples)
            return
        ids = self._coco_api.get_cat_ids(cat_names=self.dataset_meta["classes"])
        for sample in data_samples:
            found = self._parse_predictions(sample, sample["img_id"], "", dict(enumerate(ids)))
            self.results.append(self.matches(sample["img_id"], found))

    def matches(self, number: Any, found: dict[str, Any]) -> PQStat:
        """The matches of an image, by its id, with a prediction whose map is a file.

        Raises:
            UserError: the map of the ground truth cannot be read, or has another size than the image.
        """
        image, name = self._coco_api.imgs[number], self.map_names[number]
        segments = [{**one, "iscrowd": one.get("iscrowd") or 0} for one in self._coco_api.imgToAnns[number]]
        given = dict(image_id=number, file_name=name, segments_info=segments)
        with naming_map(Path(self.seg_prefix) / name, (image["height"], image["width"])):
            return pq_compute_single_core(0, [(given, found)], self.seg_prefix, self.seg_out_dir, self.categories)


def class_rows(stat: PQStat, categories: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each class: PQ, SQ and RQ in percent, None for a class that occurs nowhere; and how they were counted.

    ``segments`` are those of the ground truth, ``predicted`` those of the predictions, ``matched`` those of both.
    """
    _, each = stat.pq_average(categories, None)
    rows = []
    for number, category in categories.items():
        found = stat[number]
        occurs = found.tp + found.fp + found.fn
        rows.append(
            {
                "class": category["name"],
                "kind": "thing" if category["isthing"] else "stuff",
                "segments": found.tp + found.fn,
                "predicted": found.tp + found.fp,
                "matched": found.tp,
                **{key.upper(): round(100 * value, DIGITS) if occurs else None for key, value in each[number].items()},
            }
        )
    return rows


def percent(share: float) -> float | None:
    return None if math.isnan(share) else 100 * share
