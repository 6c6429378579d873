"""The images of an evaluation that a detector does worst and best."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.registry import HOOKS
from PIL import Image
from pycocotools import mask as coco_mask

from detection import panoptic_extremes
from detection.coco_truth import box_of, run_lengths_of
from detection.errors import ERRORS, Errors, judge_image
from detection.run_lengths import run_lengths
from ziggurat.engine.coco_masks import is_mask
from ziggurat.engine.draw import draw_instances, make_palette
from ziggurat.engine.extremes import ExtremesHook, Judged
from ziggurat.engine.reading import reading_in
from ziggurat.engine.sheet import Tile
from ziggurat.engine.triptych import COLUMNS, SIZE, triptych

NO_ERROR = "none"  # by which a report's page finds images without errors


@HOOKS.register_module()
class ObjectImagesHook(ExtremesHook):
    """Shows the images with the worst and the best predictions: image, ground truth and prediction side by side.

    The quality of an image is the F1 score of its boxes at IoU 0.5, in 0..1: found objects, twice, over all objects and
    all predictions that are shown. It is 1 for an image without objects and predictions. A panoptic model has the PQ of
    the image instead, see :func:`detection.panoptic_extremes.judged`.

    Args:
        count: as for ExtremesHook.
        score: predictions below this score are not shown and do not count.
        **kwargs: as for ExtremesHook.
    """

    titles = {"worst": "Lowest F1 of boxes, worst first", "best": "Highest F1 of boxes, best first"}
    size, columns = SIZE, COLUMNS
    reported = 16

    def __init__(self, count: int = 4, score: float = 0.3, **kwargs: Any):
        super().__init__(count, **kwargs)
        self.score = score

    def judge(
        self, loop: Any, outputs: Sequence[Any], indices: Sequence[int]
    ) -> list[tuple[float, dict[str, Any]] | None]:
        dataset = loop.dataloader.dataset
        if all("pred_panoptic_seg" in output for output in outputs) and hasattr(dataset, "get_data_info"):
            self.titles = panoptic_extremes.TITLES
            infos = [dataset.get_data_info(index) for index in indices]
            if any(not info.get("segments_info") or not info.get("seg_map_path") for info in infos):
                return []
            pairs = zip(outputs, infos, strict=True)
            return [panoptic_extremes.judged(output, info, dataset.metainfo) for output, info in pairs]
        if not hasattr(dataset, "get_data_info") or any("pred_instances" not in output for output in outputs):
            return []
        judged = []
        for output, index in zip(outputs, indices):
            truth = dataset.get_data_info(index).get("instances")
            if truth is None:
                return []
            found = shown(output.pred_instances, self.score)
            judged.append(compared(truth, found))
        return judged

    def tile(self, dataset: Any, image: Judged) -> Tile:
        info, facts = dataset.get_data_info(image.index), image.facts
        if "maps" in facts:
            palette = dataset.metainfo.get("palette") or make_palette(len(dataset.metainfo["classes"]))
            return panoptic_extremes.tile(info["img_path"], image.quality, facts, palette, reading_in(dataset))
        found, classes = facts["found"], [str(name) for name in dataset.metainfo["classes"]]
        palette = dataset.metainfo.get("palette") or make_palette(len(classes))
        truth = [one for one in info["instances"] if not one["ignore_flag"]]
        masks = masks_of(truth, info["height"], info["width"]) if found["masks"] is not None else None
        size = (info["width"], info["height"])

        def drawing(boxes: Any, labels: Sequence[int], masks: Any, scores: Any = None) -> Any:
            names, colours = [classes[i] for i in labels], [tuple(palette[i]) for i in labels]
            return lambda image: draw_scaled(image, size, np.reshape(boxes, (-1, 4)), names, colours, masks, scores)

        drawings = [
            drawing([one["bbox"] for one in truth], [one["bbox_label"] for one in truth], masks),
            drawing(found["boxes"], found["labels"], found["masks"], found["scores"]),
        ]
        errors = ", ".join(f"{count} {name}" for name, count in facts["errors"].items())
        line = f"F1 {image.quality:.2f} at score {self.score:g}: {facts['hits']} of {facts['objects']} found"
        lines = [line, errors or "no errors"]
        return triptych(info["img_path"], drawings, lines, image.quality >= 0.5, reading_in(dataset))

    def describe(self, dataset: Any, image: Judged) -> dict[str, Any]:
        names = ("segments", "hits", "extra") if "maps" in image.facts else ("objects", "hits", "errors")
        counts = {name: image.facts[name] for name in names}
        return {"image": dataset.get_data_info(image.index)["img_path"], **counts}

    def marks(self, dataset: Any, image: Judged) -> dict[str, list[str]]:
        classes, facts = [str(name) for name in dataset.metainfo["classes"]], image.facts
        if "maps" in facts:
            labels = {one.label for _, segments in facts["maps"].values() for one in segments}
            counts = dict(missed=facts["segments"] - facts["hits"], extra=facts["extra"])
        else:
            truth = dataset.get_data_info(image.index)["instances"]
            labels = {one["bbox_label"] for one in truth if not one["ignore_flag"]} | set(facts["found"]["labels"])
            counts = facts["errors"]
        errors = [name for name, count in counts.items() if count]
        return {"error": errors or [NO_ERROR], "class": [classes[i] for i in sorted(labels)]}


def shown(predictions: Any, score: float) -> dict[str, Any]:
    """The predictions of mmdet's ``pred_instances`` from a score up; of masks the run lengths."""
    kept = predictions[predictions.scores >= score].cpu()
    boxes = kept.bboxes
    masks = run_lengths(kept.masks) if "masks" in kept else None
    return dict(
        boxes=np.asarray(getattr(boxes, "tensor", boxes), float).tolist(),
        labels=kept.labels.tolist(),
        scores=kept.scores.tolist(),
        masks=masks,
    )


def compared(truth: Sequence[dict[str, Any]], found: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """F1 and facts of an image.

    Args:
        truth: mmdet's ``instances``: dicts with ``bbox``, ``bbox_label`` and ``ignore_flag``.
        found: from :func:`shown`.
    """
    given = [
        dict(id=i, bbox=box_of(one["bbox"]), category_id=one["bbox_label"], iscrowd=one["ignore_flag"])
        for i, one in enumerate(truth)
    ]
    predicted = [
        dict(bbox=box_of(box), category_id=label, score=score)
        for box, label, score in zip(found["boxes"], found["labels"], found["scores"])
    ]
    errors = Errors()
    judge_image(errors, given, sorted(predicted, key=lambda one: -one["score"]), masks=False)
    objects, hits = sum(errors.positives.values()), sum(one.error is None for one in errors.predictions)
    counted = objects + len(errors.predictions)
    counts = {name: errors.count(name) for name in ERRORS if errors.count(name)}
    return 2 * hits / counted if counted else 1.0, dict(objects=objects, hits=hits, errors=counts, found=found)


def masks_of(truth: Sequence[dict[str, Any]], height: int, width: int) -> list[dict[str, Any]] | None:
    """Run lengths of the masks of mmdet's ``instances``; None if one has no mask, or one that cannot be drawn."""
    if not all(one.get("mask") and is_mask(one["mask"], width, height) for one in truth):
        return None
    return [run_lengths_of(dict(id=i, segmentation=one["mask"]), height, width) for i, one in enumerate(truth)]


def draw_scaled(
    image: Image.Image,
    size: tuple[int, int],
    boxes: np.ndarray,
    names: Sequence[str],
    colours: Sequence[Any],
    masks: Sequence[dict[str, Any]] | None,
    scores: Sequence[float] | None,
) -> Image.Image:
    """Draws objects on an image whose size differs from ``size``, the (width, height) that they are given for."""
    pixels = None
    if masks is not None:
        pixels = [np.asarray(Image.fromarray(coco_mask.decode(mask)).resize(image.size, 0), bool) for mask in masks]
    scale = np.tile(np.divide(image.size, size), 2)
    return draw_instances(image, np.asarray(boxes, float) * scale, names, colours, scores, pixels)
