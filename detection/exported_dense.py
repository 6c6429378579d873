"""Detectors of one stage as modules with outputs of fixed length: RetinaNet, ATSS, GFL, FCOS, RTMDet."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import GFLHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from torch import Tensor, nn

from backbones.errors import UserError
from backbones.export.program import IMAGE, SHOWN
from detection.exported_boxes import Boxes, best, check_nms, clipped, joined, larger_than, size_of, suppressed, top

OF_LEVELS = (BaseDenseHead._predict_by_feat_single, GFLHead._predict_by_feat_single)  # the rules that are followed


def is_dense(head: nn.Module) -> bool:
    """Whether a head chooses its boxes by the rules that :class:`DenseDetector` follows."""
    kind = type(head)
    return (
        isinstance(head, BaseDenseHead)
        and kind._predict_by_feat_single in OF_LEVELS
        and all(
            getattr(kind, name) is getattr(BaseDenseHead, name)
            for name in ("predict", "predict_by_feat", "_bbox_post_process")
        )
    )


class DenseDetector(nn.Module):
    """A detector with a dense head, for one image.

    The input has the image at its top left. ``shown`` (2,) is the height and width of the image, and None the whole
    input. What is found in the filling beside the image is clipped to its border, as by mmdet.

    Args:
        model: mmdet's detector, with a head for which :func:`is_dense` holds.

    Raises:
        UserError: the config's choice of boxes is not exported.
    """

    inputs = (IMAGE, SHOWN)

    def __init__(self, model: nn.Module):
        super().__init__()
        check_dense(model.bbox_head)
        check_nms(model.bbox_head.test_cfg.get("nms"))
        self.model = model

    def forward(self, image: Tensor, shown: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        head, cfg = self.model.bbox_head, self.model.bbox_head.test_cfg
        shown = size_of(image) if shown is None else shown
        outputs = head(self.model.extract_feat(image))
        levels = of_levels(head, outputs, shown, cfg.get("nms_pre", -1), cfg.get("score_thr", 0))
        found = joined(levels)
        found = found.where(larger_than(found.boxes, cfg.get("min_bbox_size", -1)))
        return tuple(best(suppressed(found, found.labels, cfg.nms), cfg.max_per_img))


def check_dense(head: nn.Module) -> None:
    """Raises UserError for a head with scores of its own kind."""
    if getattr(head.loss_cls, "custom_cls_channels", False):
        raise UserError(f"{type(head.loss_cls).__name__} has scores of its own; exported: sigmoid or softmax")


def of_levels(head: nn.Module, outputs: Sequence[Any], shown: Tensor, count: int, threshold: float) -> list[Boxes]:
    """The best rows of each level of a dense head.

    Args:
        head: of mmdet.
        outputs: its outputs: for each level logits of scores (1, A * C, h, w), and of boxes (1, A * 4, h, w). There may
            be factors of scores (1, A, h, w), too.
        shown: (2,), height and width of the image in the network's input.
        count: the largest number of rows of a level; 0 or less takes all.
        threshold: scores up to it are none.
    """
    sizes = [logits.shape[-2:] for logits in outputs[0]]
    reference = outputs[0][0]
    priors = head.prior_generator.grid_priors(sizes, dtype=reference.dtype, device=reference.device)
    levels = []
    for level, (logits, deltas, prior) in enumerate(zip(*outputs[:2], priors, strict=True)):
        scores = scores_of(head, rows_of(logits, head.cls_out_channels))
        classes, total = scores.shape[1], scores.numel()
        scores = scores.where(scores > threshold, 0).flatten()
        scores, places = top(scores, count) if count > 0 else scores.topk(total)
        rows = places // classes
        if len(outputs) > 2:
            scores = scores * rows_of(outputs[2][level], 1)[rows, 0].sigmoid()
        if isinstance(head, GFLHead):
            chosen = rows_of(deltas, 4 * (head.reg_max + 1))[rows]
            chosen = head.integral(chosen) * head.prior_generator.strides[level][0]
            boxes = head.bbox_coder.decode(head.anchor_center(prior[rows]), chosen)
        else:
            boxes = head.bbox_coder.decode(prior[rows], rows_of(deltas, 4)[rows])
        boxes = clipped(boxes, shown) if head.bbox_coder.clip_border else boxes
        levels.append(Boxes(boxes, scores, places % classes))
    return levels


def rows_of(maps: Tensor, channels: int) -> Tensor:
    """Maps (1, A * channels, h, w) as rows (h * w * A, channels)."""
    return maps[0].permute(1, 2, 0).reshape(-1, channels)


def scores_of(head: nn.Module, logits: Tensor) -> Tensor:
    """The scores of each class, 0..1, without the ground."""
    return logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)[:, :-1]


def levels_of(tables: Sequence[Boxes]) -> Tensor:
    """The number of each row's level, (K,) of int64."""
    return torch.cat([torch.full_like(table.labels, level) for level, table in enumerate(tables)])
