"""Panoptic quality (PQ) and the colours of panoptic maps: the part of ``panopticapi`` that mmdet uses.

``panopticapi`` is in no package index. ``install()`` puts this module in its place where it is absent. Source of the
definitions: arXiv 1801.00868, and cocodataset/panopticapi@7bb4655, panopticapi/evaluation.py and utils.py.
"""

import importlib.util
import sys
from collections import defaultdict
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

VOID = 0  # the id of pixels without a segment
OFFSET = 256**3  # more than the largest id


def rgb2id(colour: Any) -> Any:
    """The segment ids of an image (H, W, 3) of colours, as (H, W) integers; of one colour, as an int."""
    parts = np.asarray(colour).astype(np.int64)
    ids = parts[..., 0] + 256 * parts[..., 1] + 256**2 * parts[..., 2]
    return ids if ids.ndim else int(ids)


def id2rgb(ids: Any) -> Any:
    """The colours, uint8 (H, W, 3), of segment ids (H, W); of one id, a list of three numbers."""
    values = np.asarray(ids).astype(np.int64)
    colours = np.stack([values // 256**i % 256 for i in range(3)], axis=-1).astype(np.uint8)
    return colours if values.ndim else colours.tolist()


class PQStatCat:
    """Matches of one category: their summed IoU, and the numbers of true and false positives and false negatives."""

    def __init__(self) -> None:
        self.iou, self.tp, self.fp, self.fn = 0.0, 0, 0, 0

    def __iadd__(self, other: "PQStatCat") -> "PQStatCat":
        for name in ("iou", "tp", "fp", "fn"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


class PQStat:
    """Matches of all categories, by the ids of the categories."""

    def __init__(self) -> None:
        self.pq_per_cat: dict[int, PQStatCat] = defaultdict(PQStatCat)

    def __getitem__(self, category: int) -> PQStatCat:
        return self.pq_per_cat[category]

    def __iadd__(self, other: "PQStat") -> "PQStat":
        for category, matches in other.pq_per_cat.items():
            self.pq_per_cat[category] += matches
        return self

    def pq_average(
        self, categories: Mapping[int, Mapping[str, Any]], isthing: bool | None
    ) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
        """Panoptic, segmentation and recognition quality, 0 to 1.

        Args:
            categories: id -> category, with ``isthing``.
            isthing: which categories count: things, stuff, or all (None).

        Returns:
            The means over the ``n`` categories that occur, nan if none does; and the figures of each category.
        """
        each, present = {}, []
        for category, content in categories.items():
            if isthing is not None and isthing != (content["isthing"] == 1):
                continue
            found = self.pq_per_cat[category]
            total = found.tp + 0.5 * found.fp + 0.5 * found.fn
            each[category] = {"pq": 0.0, "sq": 0.0, "rq": 0.0}
            if total:
                sq = found.iou / found.tp if found.tp else 0.0
                each[category] = {"pq": found.iou / total, "sq": sq, "rq": found.tp / total}
                present.append(each[category])
        means = {key: sum(one[key] for one in present) / len(present) if present else float("nan") for key in FIGURES}
        return means | {"n": len(present)}, each


FIGURES = ("pq", "sq", "rq")


def install() -> None:
    """Makes ``import panopticapi`` work where it is not installed. mmdet looks for it when mmdet is imported."""
    if "panopticapi" in sys.modules or importlib.util.find_spec("panopticapi") is not None:
        return
    package = ModuleType("panopticapi", __doc__)
    package.__path__ = []
    package.utils, package.evaluation = ModuleType("panopticapi.utils"), ModuleType("panopticapi.evaluation")
    vars(package.utils).update(rgb2id=rgb2id, id2rgb=id2rgb)
    vars(package.evaluation).update(OFFSET=OFFSET, VOID=VOID, PQStat=PQStat, PQStatCat=PQStatCat)
    for module in (package, package.utils, package.evaluation):
        sys.modules[module.__name__] = module
