"""Detectors of regions as modules with outputs of fixed length: Faster, Mask and Cascade R-CNN."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmcv.ops import RoIAlign
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from backbones.errors import UserError
from backbones.export.program import IMAGE, SHOWN
from detection.exported_boxes import Boxes, best, check_nms, clipped, joined, larger_than, size_of, suppressed
from detection.exported_dense import check_dense, levels_of, of_levels

HEADS = (StandardRoIHead, CascadeRoIHead)


class RegionDetector(nn.Module):
    """An R-CNN for one image: an RPN, and one or several box heads. A mask head is followed if there is one.

    The input has the image at its top left. ``shown`` (2,) is the height and width of the image, and None the whole
    input. What is found in the filling beside the image is clipped to its border, as by mmdet.

    Args:
        model: mmdet's two-stage detector, whose ``roi_head`` is one of ``HEADS``.

    Raises:
        UserError: a part of the model is not exported.
    """

    inputs = (IMAGE, SHOWN)

    def __init__(self, model: nn.Module):
        super().__init__()
        check_parts(model)
        self.model = model

    def forward(self, image: Tensor, shown: Tensor | None = None) -> tuple[Tensor, ...]:
        maps, shown = self.model.extract_feat(image), size_of(image) if shown is None else shown
        found = self.classified(maps, self.proposals(maps, shown), shown)
        if not self.model.roi_head.with_mask:
            return tuple(found)
        return *found, self.masks(maps, found)

    def proposals(self, maps: Sequence[Tensor], shown: Tensor) -> Boxes:
        """The RPN's boxes, ``max_per_img`` rows."""
        head, cfg = self.model.rpn_head, self.model.rpn_head.test_cfg
        levels = of_levels(head, head(maps), shown, cfg.get("nms_pre", -1), 0)
        found = joined(levels)
        found = found.where(larger_than(found.boxes, cfg.get("min_bbox_size", -1)))
        return best(suppressed(found, levels_of(levels), cfg.nms), cfg.max_per_img)

    def classified(self, maps: Sequence[Tensor], proposals: Boxes, shown: Tensor) -> Boxes:
        """The classes and final boxes of regions, ``max_per_img`` rows."""
        roi_head, cfg = self.model.roi_head, self.model.test_cfg.rcnn
        heads, extractors = listed(roi_head.bbox_head), listed(roi_head.bbox_roi_extractor)
        boxes, logits = proposals.boxes, []
        for stage, (head, extractor) in enumerate(zip(heads, extractors, strict=True)):
            logit, deltas = head(pooled(extractor, maps, boxes))
            logits.append(logit)
            if stage + 1 < len(heads):
                boxes = decoded(head, boxes, deltas, logit[:, :-1].argmax(dim=1, keepdim=True), shown)[:, 0]
        scores = torch.stack(logits).mean(dim=0).softmax(dim=-1)[:, :-1]
        scores = scores.where((scores > cfg.score_thr) & (proposals.scores > 0)[:, None], 0)
        scores, labels = scores.topk(classes_above(cfg.score_thr, scores.shape[1]))
        boxes = decoded(heads[-1], boxes, deltas, labels, shown)
        found = Boxes(boxes.flatten(0, 1), scores.flatten(), labels.flatten())
        return best(suppressed(found, found.labels, cfg.nms), cfg.max_per_img)

    def masks(self, maps: Sequence[Tensor], found: Boxes) -> Tensor:
        """The mask of each row's class within its box: (N, 28, 28), 0..1."""
        roi_head = self.model.roi_head
        pairs = zip(listed(roi_head.mask_head), listed(roi_head.mask_roi_extractor), strict=True)
        several = torch.stack([head(pooled(extractor, maps, found.boxes)).sigmoid() for head, extractor in pairs])
        masks = several.mean(dim=0).where((found.scores > 0)[:, None, None, None], 0)
        if masks.shape[1] == 1:
            return masks[:, 0]
        index = found.labels[:, None, None, None].expand(-1, 1, *masks.shape[2:])
        return masks.gather(1, index)[:, 0]


def check_parts(model: nn.Module) -> None:
    """Raises UserError for a part that a :class:`RegionDetector` does not follow."""
    roi_head = model.roi_head
    refused = [part for part, allowed in parts_of(model) if not allowed]
    if roi_head.with_shared_head:
        refused.append(roi_head.shared_head)
    if refused:
        raise UserError(
            f"{type(refused[0]).__name__} of {type(model).__name__} is not exported; "
            "allowed: RPNHead, BBoxHead, FCNMaskHead, SingleRoIExtractor with RoIAlign of averages; or --backbone"
        )
    check_dense(model.rpn_head)
    for cfg in (model.rpn_head.test_cfg, model.test_cfg.rcnn):
        check_nms(cfg.get("nms"))


def parts_of(model: nn.Module) -> list[tuple[nn.Module, bool]]:
    """The parts of an R-CNN, and whether each is followed."""
    roi_head = model.roi_head
    kinds = {"bbox": (BBoxHead, "_predict_by_feat_single"), "mask": (FCNMaskHead, "_predict_by_feat_single")}
    parts = [(model.rpn_head, type(model.rpn_head) is RPNHead)]
    for name, (kind, rule) in kinds.items():
        if getattr(roi_head, f"with_{name}"):
            for head in listed(getattr(roi_head, f"{name}_head")):
                same = isinstance(head, kind) and getattr(type(head), rule) is getattr(kind, rule)
                parts.append((head, same and not getattr(head, "custom_cls_channels", False)))
            parts += [(e, is_averaging(e)) for e in listed(getattr(roi_head, f"{name}_roi_extractor"))]
    return parts


def is_averaging(extractor: nn.Module) -> bool:
    """Whether an extractor takes each region from one level, by averages."""
    return type(extractor) is SingleRoIExtractor and all(
        isinstance(layer, RoIAlign) and layer.pool_mode == "avg" for layer in extractor.roi_layers
    )


def listed(parts: Any) -> list[nn.Module]:
    return list(parts) if isinstance(parts, nn.ModuleList) else [parts]


def classes_above(threshold: float, classes: int) -> int:
    """How many of the scores of a region, whose sum is 1, can be above a threshold."""
    return classes if threshold <= 0 else max(1, min(classes, math.ceil(1 / threshold) - 1))


def pooled(extractor: nn.Module, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """The features of regions (K, 4), each from the level of its size: (K, C, side, side)."""
    layers, regions = extractor.roi_layers, torch.cat((boxes.new_zeros(len(boxes), 1), boxes), dim=1)
    level_of = extractor.map_roi_levels(regions, len(layers))
    features = None
    for level, (layer, values) in enumerate(zip(layers, maps[: len(layers)], strict=True)):
        here = (level_of == level)[:, None]
        cell = regions.new_tensor([0, 0, 0, 1 / layer.spatial_scale, 1 / layer.spatial_scale])  # little to compute
        found = torch.ops.torchvision.roi_align(
            values,
            regions.where(here, cell),
            layer.spatial_scale,
            *layer.output_size,
            layer.sampling_ratio,
            layer.aligned,
        )
        features = found if features is None else found.where(here[..., None, None], features)
    return features


def decoded(head: nn.Module, boxes: Tensor, deltas: Tensor, labels: Tensor, shown: Tensor) -> Tensor:
    """The boxes of chosen classes.

    Args:
        head: a box head.
        boxes: (R, 4), the regions.
        deltas: (R, C * 4), or (R, 4) if the classes share them.
        labels: (R, k), the chosen classes.
        shown: (2,), height and width of the image in the network's input.

    Returns:
        (R, k, 4)
    """
    count = labels.shape[1]
    deltas = deltas.view(len(boxes), -1, 4)
    if head.reg_class_agnostic:
        deltas = deltas.expand(-1, count, -1)
    else:
        deltas = deltas.gather(1, labels[..., None].expand(-1, -1, 4))
    regions = boxes[:, None].expand(-1, count, -1)
    found = head.bbox_coder.decode(regions.reshape(-1, 4), deltas.reshape(-1, 4))
    found = clipped(found, shown) if head.bbox_coder.clip_border else found
    return found.view(len(boxes), count, 4)
