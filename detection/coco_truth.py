"""Ground truth and predictions in COCO's form, renumbered and checked, as every evaluation here takes them.

Images, categories and annotations are numbered from 1. pycocotools counts a match with an annotation of id 0 as none,
and orders categories by id, so that a table by the file's order names the wrong classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from backbones.errors import UserError, shorten


def truth_of(content: dict[str, Any], classes: Sequence[str], image_ids: Sequence[Any], masks: bool) -> dict[str, Any]:
    """The ground truth of some images: COCO's dict of images, categories and annotations.

    Args:
        content: an annotation file.
        classes: the names of the K classes. Category i + 1 of the result is class i, also where the file lacks it.
        image_ids: of the images, in the file's ids. Image i + 1 of the result is the one at index i.
        masks: whether annotations get their mask, in run lengths.

    Raises:
        UserError: an annotation has no mask, or a mask of another size than its image.
    """
    numbers = {image_id: i + 1 for i, image_id in enumerate(image_ids)}
    images = {image["id"]: image for image in content["images"]}
    category_of = {name: i + 1 for i, name in enumerate(classes)}
    categories = {one["id"]: category_of.get(str(one["name"])) for one in content["categories"]}
    wanted = [
        annotation
        for annotation in content.get("annotations") or []
        if annotation["image_id"] in numbers and categories[annotation["category_id"]]
    ]
    if masks:
        without = [annotation["id"] for annotation in wanted if not annotation.get("segmentation")]
        if without:
            raise UserError(
                f"masks cannot be scored: {len(without)} annotations have no segmentation: {shorten(without)}"
            )
    annotations = []
    for i, given in enumerate(wanted):
        image, crowd = images[given["image_id"]], int(given.get("iscrowd") or 0)
        made = dict(
            id=i + 1,
            image_id=numbers[given["image_id"]],
            category_id=categories[given["category_id"]],
            bbox=list(given["bbox"]),
            iscrowd=crowd,
            ignore=crowd,
        )
        if masks:
            made["segmentation"] = run_lengths_of(given, image["height"], image["width"])
        area = given.get("area")
        if area is None:
            area = float(coco_mask.area(made["segmentation"])) if masks else made["bbox"][2] * made["bbox"][3]
        annotations.append(made | {"area": area})
    return dict(
        images=[dict(id=number, **size_of(images[image_id])) for image_id, number in numbers.items()],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(classes)],
        annotations=annotations,
    )


def size_of(image: dict[str, Any]) -> dict[str, int]:
    return dict(height=image["height"], width=image["width"])


def run_lengths_of(annotation: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """The mask of an annotation, of polygons or run lengths, as COCO's compressed run lengths."""
    given = annotation["segmentation"]
    if isinstance(given, list):
        return coco_mask.merge(coco_mask.frPyObjects(given, height, width))
    if list(given["size"]) != [height, width]:
        raise UserError(
            f"annotation {annotation['id']}: its mask has {given['size'][1]}x{given['size'][0]} pixels, "
            f"and its image {width}x{height}; allowed: the same size"
        )
    return coco_mask.frPyObjects(given, height, width) if isinstance(given["counts"], list) else given


def found_of(predictions: Sequence[dict[str, Any]], truth: dict[str, Any], masks: bool) -> list[dict[str, Any]]:
    """Predictions as COCO's annotations with ``score``, for the images and categories of :func:`truth_of`.

    Args:
        predictions: of each image: ``bboxes`` (N, 4) as x1, y1, x2, y2 in pixels; ``scores`` (N,); ``labels`` (N,),
            class indices; with masks also ``masks``, N run lengths, and perhaps ``mask_scores`` (N,).
        truth: of the same images in the same order.
        masks: whether the masks count, and not the boxes. Their areas and scores are those of the masks.

    Raises:
        UserError: the predictions have no masks, masks of another size than their image, or a label without a class.
    """
    classes, found = len(truth["categories"]), []
    for image, one in zip(truth["images"], predictions, strict=True):
        if masks and "masks" not in one:
            raise UserError("masks cannot be scored: the detector predicts boxes alone; allowed: metric='bbox'")
        if len(one["labels"]) and max(one["labels"]) >= classes:
            raise UserError(
                f"the model predicts class {max(one['labels'])}, counted from 0, and the data have {classes} classes; "
                "allowed: a checkpoint and data with the same classes"
            )
        scores = one.get("mask_scores", one["scores"]) if masks else one["scores"]
        for i, (box, score, label) in enumerate(zip(one["bboxes"].tolist(), scores.tolist(), one["labels"].tolist())):
            made = dict(id=len(found) + 1, image_id=image["id"], category_id=label + 1, score=score, iscrowd=0)
            if masks:
                mask = one["masks"][i]
                if list(mask["size"]) != [image["height"], image["width"]]:
                    raise UserError(
                        f"predicted masks have {mask['size'][1]}x{mask['size'][0]} pixels, and by the annotation file "
                        f"their image has {image['width']}x{image['height']}; allowed: the same size"
                    )
                found.append(made | dict(segmentation=mask, area=float(coco_mask.area(mask)), bbox=box_of(box)))
            else:
                made["bbox"] = box_of(box)
                found.append(made | dict(area=made["bbox"][2] * made["bbox"][3]))
    return found


def box_of(corners: Sequence[float]) -> list[float]:
    """x, y, width, height of x1, y1, x2, y2."""
    left, top, right, bottom = corners
    return [left, top, right - left, bottom - top]


def results_of(
    found: Sequence[dict[str, Any]], image_ids: Sequence[Any], category_ids: Sequence[Any], masks: bool
) -> list[dict[str, Any]]:
    """Predictions of :func:`found_of` as COCO's result file has them: with the ids of the annotation file.

    Masks come without boxes. With a box, COCO's own tools would take the box's area for the mask's.
    """
    rows = []
    for one in found:
        row = dict(image_id=image_ids[one["image_id"] - 1], category_id=category_ids[one["category_id"] - 1])
        if masks:
            mask = one["segmentation"]
            counts = mask["counts"].decode("ascii") if isinstance(mask["counts"], bytes) else mask["counts"]
            row["segmentation"] = dict(size=[int(side) for side in mask["size"]], counts=counts)
        else:
            row["bbox"] = one["bbox"]
        rows.append(row | {"score": one["score"]})
    return rows


def overlaps(found: Sequence[dict], truth: Sequence[dict], masks: bool) -> np.ndarray:
    """(N, M) IoU of N predictions and M annotations of an image. Of a crowd: the share of the prediction inside."""
    key = "segmentation" if masks else "bbox"
    if not found or not truth:
        return np.zeros((len(found), len(truth)))
    return np.asarray(coco_mask.iou([d[key] for d in found], [g[key] for g in truth], [g["iscrowd"] for g in truth]))
