"""Detectors as modules that ``ziggurat export`` records: one image in, found objects out, in tensors of fixed length.

Inputs:

    image    (1, C, H, W): normalised. The image lies at the top left
    shown    (2,): height and width of the image in pixels, H and W at most; not of detectors of queries

Outputs, in this order, for N = ``max_per_img`` of the config's test_cfg:

    boxes    (N, 4): x1, y1, x2, y2 in pixels of the network's input
    scores   (N,): 0..1, sorted. A row that holds nothing has score 0, and zeros elsewhere
    labels   (N,): int64
    masks    (N, 28, 28): 0..1, within the boxes; only of detectors with a mask head
"""

from typing import Any

import torch
from mmdet.models import DetTTAModel
from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from backbones.errors import UserError
from detection.exported_boxes import clipped
from detection.exported_dense import DenseDetector, is_dense
from detection.exported_queries import DETECTORS, QueryDetector
from detection.exported_regions import HEADS, RegionDetector

ALLOWED = (
    "RetinaHead, ATSSHead, GFLHead, FCOSHead, RTMDetHead; RPNHead with StandardRoIHead or CascadeRoIHead; "
    "DeformableDETRHead, DINOHead"
)


def exported(model: nn.Module) -> nn.Module:
    """The module of a detector whose outputs are those above, for one image at a time.

    Raises:
        UserError: the head, or another part of the detector, is not exported.
    """
    head = head_of(model)
    if type(model) in DETECTORS:
        return QueryDetector(model)
    if isinstance(model, TwoStageDetector) and type(head) in HEADS and model.with_rpn:
        return RegionDetector(model)
    if isinstance(model, SingleStageDetector) and is_dense(head):
        return DenseDetector(model)
    raise UserError(
        f"{type(head).__name__} of {type(model).__name__} is not exported; allowed: {ALLOWED}; or --backbone"
    )


def export_outputs(model: nn.Module) -> tuple[str, ...]:
    """The names of the outputs of :func:`exported`."""
    has_masks = getattr(getattr(model, "roi_head", None), "with_mask", False)
    return ("boxes", "scores", "labels", *(["masks"] if has_masks else []))


def head_of(model: nn.Module) -> nn.Module:
    """The head that a detector is named by in messages."""
    names = ("roi_head", "bbox_head", "panoptic_head", "mask_head")
    return next((head for name in names if (head := getattr(model, name, None)) is not None), model)


def check_runtime(cfg: Any) -> None:
    """Raises UserError for a detector that looks at several views of an image, which have several sizes."""
    kind = MODELS.get(cfg.model.type)
    if isinstance(kind, type) and issubclass(kind, DetTTAModel):
        raise UserError("tta is given; allowed for a detector with a runtime: no tta")


def takes_padding(cfg: Any) -> bool:
    """Whether an image may be padded for the exported detector of a config. Queries would look at the padding."""
    return MODELS.get(cfg.model.type) not in DETECTORS


def samples_of_export(cfg: Any, outputs: list[Tensor], data_samples: list[Any]) -> list[Any]:
    """The samples that mmdet's ``predict`` would give, from the outputs of an exported detector.

    Args:
        cfg: the completed config.
        outputs: boxes, scores, labels, and masks if there are any.
        data_samples: of one image, with ``img_shape``, ``scale_factor`` and ``ori_shape`` of the test pipeline.

    Returns:
        The sample, with ``pred_instances``: boxes in pixels of the image, and masks (N, H, W) of its size.
    """
    (sample,) = data_samples
    boxes, scores, labels, *masks = outputs
    kept = scores > 0
    boxes = clipped(boxes[kept], boxes.new_tensor(sample.img_shape[:2]))
    boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
    found = InstanceData(bboxes=boxes, scores=scores[kept], labels=labels[kept])
    if masks:
        threshold = cfg.model.test_cfg.rcnn.mask_thr_binary
        found.masks = pasted(masks[0][kept], boxes, sample.ori_shape[:2], threshold)
    sample.pred_instances = found
    return [sample]


def pasted(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Masks (N, 28, 28) at their boxes in an image of this height and width: (N, H, W) of bool."""
    found = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    for i, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        if box[0] > size[1] or box[1] > size[0]:  # in the filling beside the image
            continue
        values, place = _do_paste_mask(mask[None, None], box[None], *size)
        found[(i, *place)] = values[0] >= threshold
    return found
