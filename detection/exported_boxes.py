"""The choice of boxes in tensors of fixed length, for exported detectors of one image.

A row of a table of boxes that holds no box has score 0. Rows are never taken out, so no shape depends on the image.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from backbones.errors import UserError, shown

NMS = ("iou_threshold", "class_agnostic", "split_thr", "type")  # the options of nms that are followed


class Boxes(NamedTuple):
    """K rows: boxes (K, 4) as x1 y1 x2 y2 in pixels of the network's input, scores (K,), labels (K,) of int64."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def where(self, valid: Tensor) -> "Boxes":
        """The table with scores of 0 where ``valid`` (K,) is false."""
        return self._replace(scores=self.scores.where(valid, 0))


def check_nms(nms: Any) -> None:
    """Raises UserError unless ``nms`` of a test_cfg is plain suppression by overlap."""
    if nms is None or nms.get("type", "nms") != "nms" or set(nms) - set(NMS):
        raise UserError(f"nms of test_cfg is {shown(nms)}; exported: type nms with iou_threshold; or --backbone")


def joined(tables: list[Boxes]) -> Boxes:
    return Boxes(*(torch.cat(columns) for columns in zip(*tables, strict=True)))


def clipped(boxes: Tensor, size: Tensor) -> Tensor:
    """Boxes (..., 4) within an image, whose height and width are ``size`` (2,), of the boxes' type."""
    height, width = size.unbind()
    return torch.minimum(boxes.clamp(min=0), torch.stack((width, height, width, height)))


def size_of(image: Tensor) -> Tensor:
    """Height and width of the whole of an input (1, C, H, W), as a tensor (2,) of its type."""
    return sides_of(image.shape[-2:], image)


def sides_of(shape: Sequence[int], like: Tensor) -> Tensor:
    """Numbers of a shape as a tensor of the type of ``like``. They stay free where the shape is."""
    return torch.stack([torch.scalar_tensor(side, dtype=like.dtype, device=like.device) for side in shape])


def larger_than(boxes: Tensor, side: float) -> Tensor:
    """Whether both sides of each box are larger than ``side`` pixels; a negative ``side`` allows all."""
    if side < 0:
        return torch.ones_like(boxes[..., 0], dtype=torch.bool)
    return ((boxes[..., 2:] - boxes[..., :2]) > side).all(dim=-1)


def suppressed(found: Boxes, groups: Tensor, nms: Any) -> Boxes:
    """The table after suppression by overlap within each group, as by mmcv's ``batched_nms``.

    Args:
        found: K rows.
        groups: (K,) of int64, such as labels.
        nms: of a test_cfg, see :func:`check_nms`.
    """
    valid = found.scores > 0
    boxes = found.boxes.where(valid[:, None], 0)
    if not nms.get("class_agnostic", False):
        boxes = boxes + (groups * valid).to(boxes)[:, None] * (boxes.max() + 1)
    # Empty rows lie on each other: their first suppresses the rest, so that long tables cost no more than their boxes.
    # The record of torchvision's operator is for two kept boxes or more, so two further rows are always kept.
    beside = boxes.new_tensor([[-2.0, -2.0, -1.0, -1.0], [-4.0, -4.0, -3.0, -3.0]])
    boxes = torch.cat((boxes.where(valid[:, None], beside[0]), beside))
    scores = F.pad(found.scores, (0, len(beside)))
    keep = torch.ops.torchvision.nms(boxes, scores, float(nms["iou_threshold"]))
    kept = torch.zeros_like(scores).index_fill(0, keep, 1.0)[: len(valid)]
    return found.where(valid & (kept > 0))


def best(found: Boxes, count: int) -> Boxes:
    """The ``count`` rows of the largest scores, sorted. Empty rows are zeros, and so are rows that are missing."""
    scores, rows = top(found.scores, count)
    valid = scores > 0
    boxes, labels = found.boxes[rows].where(valid[:, None], 0), found.labels[rows].where(valid, 0)
    missing = count - rows.shape[0]
    return Boxes(F.pad(boxes, (0, 0, 0, missing)), F.pad(scores, (0, missing)), F.pad(labels, (0, missing)))


def top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest of scores (K,), which are 0 or more, sorted, and their places.

    If K is less, there are K; but ``count`` where K is free, as converters of a record take no length but a number.
    Then scores of 0 at the last place follow.
    """
    total = scores.shape[0]
    if not isinstance(total, torch.SymInt):
        return scores.topk(min(count, total))
    found, places = F.pad(scores, (0, count)).topk(count)
    return found, places.clamp(max=total - 1)
