"""COCO's evaluation of boxes, masks and boundaries, by pycocotools or by the faster faster-coco-eval."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from backbones.errors import UserError

KINDS = ("bbox", "segm", "boundary")
BACKENDS = ("pycocotools", "faster-coco-eval")
COCO_AREAS = {"s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e5**2)}
ANY_AREA = (0, 1e5**2)
BOUNDARY = 0.02  # of the image's diagonal: the width of a mask's boundary


@dataclass(frozen=True)
class Rules:
    """How predictions are matched and counted.

    Attributes:
        iou_thresholds: (T,), ascending.
        max_dets: (M,) numbers of predictions of a class in an image, the best first. AP takes the last.
        areas: names of size ranges -> (least, largest) area in square pixels, both included. Objects of another size
            are ignored. An object's area is that of the annotation. A prediction's area is that of the box or mask.
        backend: one of ``BACKENDS``. Both give the same numbers.
    """

    iou_thresholds: np.ndarray = field(default_factory=lambda: np.linspace(0.5, 0.95, 10))
    max_dets: Sequence[int] = (1, 10, 100)
    areas: Mapping[str, Sequence[float]] = field(default_factory=lambda: COCO_AREAS)
    backend: str = BACKENDS[0]


@dataclass(frozen=True)
class Curves:
    """What an evaluation found. -1 stands where a class has no objects of a size.

    Attributes:
        precision: (T, 101, K, 1 + A, M) at IoU thresholds, recalls 0, 0.01, ... 1, classes, sizes and numbers of
            predictions. The first size is any size; the others are those of the rules.
        recall: (T, K, 1 + A, M), the highest recall.
        rules: how it was counted.
    """

    precision: np.ndarray
    recall: np.ndarray
    rules: Rules

    def average_precision(self, iou: float | None = None, size: int = 0, category: int | None = None) -> float | None:
        """Mean precision over recalls, thresholds and classes; None without objects or without that threshold."""
        return mean_of(chosen(self.precision[..., size, -1], self.rules, iou), category)

    def average_recall(
        self, iou: float | None = None, size: int = 0, dets: int = -1, category: int | None = None
    ) -> float | None:
        """Mean of the highest recall over thresholds and classes; None without objects or without that threshold."""
        return mean_of(chosen(self.recall[..., size, dets], self.rules, iou), category)


def source_of(kind: str) -> str:
    """Which predictions a kind of metric scores: those of boxes, "bbox", or of masks, "segm"."""
    return "bbox" if kind == "bbox" else "segm"


def chosen(values: np.ndarray, rules: Rules, iou: float | None) -> np.ndarray:
    return values if iou is None else values[np.isclose(rules.iou_thresholds, iou)]


def mean_of(values: np.ndarray, category: int | None) -> float | None:
    values = values if category is None else values[..., category]
    values = values[values > -1]
    return float(values.mean()) if values.size else None


def twelve_numbers(curves: Curves) -> dict[str, float | None]:
    """COCO's numbers by mmdet's names, in 0..1: six of precision and six of recall. None: there are no such objects."""
    rules, most = curves.rules, curves.rules.max_dets[-1]
    numbers = {"mAP": curves.average_precision()}
    for iou in (0.5, 0.75):
        if np.isclose(rules.iou_thresholds, iou).any():
            numbers[f"mAP_{100 * iou:.0f}"] = curves.average_precision(iou)
    sizes = {name: i + 1 for i, name in enumerate(rules.areas)}
    numbers |= {f"mAP_{name}": curves.average_precision(size=i) for name, i in sizes.items()}
    numbers |= {f"AR@{count}": curves.average_recall(dets=i) for i, count in enumerate(rules.max_dets)}
    return numbers | {f"AR_{name}@{most}": curves.average_recall(size=i) for name, i in sizes.items()}


def twelve_names(rules: Rules) -> list[str]:
    """The names of :func:`twelve_numbers`."""
    shape = (len(rules.iou_thresholds), 1, 1 + len(rules.areas), len(rules.max_dets))
    nothing = Curves(-np.ones((shape[0], 1, *shape[1:])), -np.ones(shape), rules)
    return list(twelve_numbers(nothing))


def evaluate(kind: str, truth: dict[str, Any], found: Sequence[dict[str, Any]], rules: Rules) -> Curves:
    """Scores predictions by COCO's rules.

    Args:
        kind: one of ``KINDS``. The IoU of "boundary" is the smaller of the masks' IoU and that of their boundaries
            (Cheng et al., 2021, arXiv 2103.16562).
        truth: from ``coco_truth.truth_of``, with masks unless for "bbox".
        found: from ``coco_truth.found_of``, likewise. May be empty.
        rules: how to count.

    Raises:
        UserError: the backend is not installed.
    """
    fast = rules.backend != BACKENDS[0]
    api, scorer = faster() if fast else (COCO, BoundaryEval if kind == "boundary" else COCOeval)
    with contextlib.redirect_stdout(io.StringIO()):
        given, predicted = indexed(api, truth), indexed(api, truth | {"annotations": list(found)})
        run = scorer(given, predicted, kind if fast or kind == "bbox" else "segm")
        run.params.iouThrs = np.asarray(rules.iou_thresholds)
        run.params.maxDets = list(rules.max_dets)
        run.params.areaRng = [list(area) for area in (ANY_AREA, *rules.areas.values())]
        run.params.areaRngLbl = ["all", *rules.areas]
        run.evaluate()
        run.accumulate()
    return Curves(np.asarray(run.eval["precision"]), np.asarray(run.eval["recall"]), rules)


def faster() -> tuple[type, type]:
    """The two classes of faster-coco-eval."""
    try:
        from faster_coco_eval import COCO as FastCOCO
        from faster_coco_eval import COCOeval_faster
    except ModuleNotFoundError:
        raise UserError(
            "backend='faster-coco-eval' needs the package faster-coco-eval; pip install faster-coco-eval"
        ) from None
    return FastCOCO, COCOeval_faster


def indexed(api: type, content: dict[str, Any]) -> Any:
    """A backend's index of a COCO dict. The annotations are copied, since evaluations write into them."""
    made = api()
    made.dataset = content | {"annotations": [dict(one) for one in content["annotations"]]}
    made.createIndex()
    return made


class BoundaryEval(COCOeval):
    """pycocotools with the IoU of boundaries. A crowd's share of a prediction is that of the masks alone."""

    def computeIoU(self, imgId: int, catId: int) -> Any:
        ious = super().computeIoU(imgId, catId)
        if len(ious) == 0:
            return ious
        given, found = self._gts[imgId, catId], self._dts[imgId, catId]
        order = np.argsort([-one["score"] for one in found], kind="mergesort")[: self.params.maxDets[-1]]
        edges = coco_mask.iou(
            [boundary(found[i]["segmentation"]) for i in order],
            [boundary(one["segmentation"]) for one in given],
            [0] * len(given),
        )
        crowd = np.array([bool(one["iscrowd"]) for one in given])
        return np.where(crowd, ious, np.minimum(ious, edges))


def boundary(mask: dict[str, Any]) -> dict[str, Any]:
    """The pixels of a mask near its outline, the image's border included; run lengths in and out.

    The width is ``BOUNDARY`` of the image's diagonal, at least one pixel. Pixels are near by the larger of their
    horizontal and vertical distance.
    """
    height, width = mask["size"]
    reach = max(1, round(BOUNDARY * float(np.hypot(height, width))))
    left, top, across, down = (int(side) for side in coco_mask.toBbox(mask))
    pixels = coco_mask.decode(mask)
    part = pixels[top : top + down, left : left + across]
    if part.size:
        window = np.ones((2 * reach + 1,) * 2, np.uint8)
        inner = cv2.erode(np.ascontiguousarray(part), window, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        pixels[top : top + down, left : left + across] = part - inner
    return coco_mask.encode(np.asfortranarray(pixels))
