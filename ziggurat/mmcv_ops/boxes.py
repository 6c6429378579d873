"""Suppression and overlaps of axis-aligned boxes (x1, y1, x2, y2).

With `offset` 1, coordinates count pixels: widths and heights are x2 - x1 + 1 and y2 - y1 + 1.
Semantics: mmcv/ops/csrc/pytorch/cpu/nms.cpp, bbox_overlaps_cpu.cpp and their CUDA kernels.
"""

import numpy as np
import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from ziggurat.mmcv_ops.precision import as_float, at_least_float32

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2  # decay of softnms
IOU, IOF = 0, 1  # divisor of bbox_overlaps: the area of the union, or of the first box
NMS_BLOCK = 512


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the kept boxes of (N, 4), best score first. Equal scores keep the order of their indices."""
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    dtype = torch.promote_types(at_least_float32(boxes).dtype, at_least_float32(scores).dtype)
    boxes, scores, threshold = (
        boxes.to(dtype),
        scores.to(dtype),
        as_float(iou_threshold),
    )
    if offset == 0:
        return torch.ops.torchvision.nms(boxes, scores, threshold)
    # torchvision on boxes with x2 + 1 and y2 + 1 would round differently: (x2 + 1) - x1 is not x2 - x1 + 1.
    order = scores.sort(descending=True, stable=True).indices
    boxes, kept = boxes[order], []
    while order.numel():
        size = min(NMS_BLOCK, order.numel())
        overlaps = _iou(boxes[:size, None], boxes, offset) > threshold
        alive = _greedy(overlaps[:, :size].triu(diagonal=1))
        kept.append(order[:size][alive])
        free = ~overlaps[alive, size:].any(dim=0)
        boxes, order = boxes[size:][free], order[size:][free]
    return torch.cat(kept)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Indices (K,) of the boxes (N, 4) that soft suppression keeps, in the order of selection.

    Fills the first K rows of `dets` (N, 5) with their boxes and decayed scores. Other rows stay as they are.
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    # One NumPy table with a column per box. A step has about fifteen operations on short arrays, which take a fifth of
    # the time in NumPy. The order of the columns decides ties, so columns move as in the compiled loop.
    corners = at_least_float32(boxes).cpu().numpy()
    sides = corners[:, 2:] - corners[:, :2] + offset
    table = np.stack(
        [
            *corners.T,
            sides[:, 0] * sides[:, 1],
            at_least_float32(scores).cpu().numpy().astype(corners.dtype),
        ]
    )
    x1, y1, x2, y2, area, score = table
    number = table.dtype.type
    threshold, sigma, min_score = (
        number(as_float(iou_threshold)),
        number(as_float(sigma)),
        number(as_float(min_score)),
    )
    index = np.arange(len(corners))
    left = len(corners)

    with np.errstate(all="ignore"):  # empty boxes divide 0 by 0
        for i in range(left):
            if i == left:
                break
            best = i + _first_best(score[i:left])
            if best != i:
                for row in (table, index[None]):
                    column = row[:, i].copy()
                    row[:, i] = row[:, best]
                    row[:, best] = column
            rest = slice(i + 1, left)
            width = np.minimum(x2[rest], x2[i])
            width -= np.maximum(x1[rest], x1[i])
            height = np.minimum(y2[rest], y2[i])
            height -= np.maximum(y1[rest], y1[i])
            if offset:
                width += offset
                height += offset
            overlap = np.maximum(width, 0, out=width)
            overlap *= np.maximum(height, 0, out=height)
            overlap /= area[i] + area[rest] - overlap

            if method == GAUSSIAN:
                # NumPy's exp in float32 differs from C's by an ulp or two, which can reverse a tie. So it is in double.
                score[rest] *= np.exp(-(overlap * overlap) / sigma, dtype=np.float64).astype(number)
            else:
                hit = (overlap >= threshold).nonzero()[0]
                if hit.size == 0 and i > 0:
                    continue  # no score changed since the last comparison with min_score
                score[rest][hit] *= 0 if method == NAIVE else 1 - overlap[hit]
            low = score[rest] < min_score
            if low.any():
                left = i + 1 + _compact(low, table[:, rest], index[rest])

    chosen = torch.from_numpy(np.concatenate([table[:4, :left], table[5:, :left]]).T)
    dets[:left] = chosen.to(dets)
    return torch.from_numpy(index[:left]).to(boxes.device)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Groups of boxes with scores (N, 5): a kept box, then the boxes that it suppresses (IoU >= threshold), by score.

    Groups come in the order of their kept boxes. Equal scores keep the order of their indices.
    """
    index = dets[:, 4].sort(descending=True, stable=True).indices.cpu().numpy()
    corners = at_least_float32(dets)[:, :4].cpu().numpy()[index].T
    threshold = corners.dtype.type(as_float(iou_threshold))
    sides = corners[2:] - corners[:2]
    table = np.stack([*corners, sides[0] * sides[1]])
    groups = []
    with np.errstate(all="ignore"):
        while index.size:
            top, rest = table[:, :1], table[:, 1:]
            sides = np.maximum(np.minimum(rest[2:4], top[2:4]) - np.maximum(rest[:2], top[:2]), 0)
            overlap = sides[0] * sides[1]
            hit = overlap / (top[4] + rest[4] - overlap) >= threshold
            groups.append([int(index[0]), *index[1:][hit].tolist()])
            table, index = rest[:, ~hit], index[1:][~hit]
    return groups


def bbox_overlaps(
    bboxes1: Tensor,
    bboxes2: Tensor,
    ious: Tensor,
    mode: int,
    aligned: bool,
    offset: int,
) -> None:
    """Fill `ious`: (M, N) for boxes (M, 4) and (N, 4), or (M,) for two sets (M, 4) when `aligned`."""
    if ious.numel() == 0:
        return
    bboxes1, bboxes2 = at_least_float32(bboxes1), at_least_float32(bboxes2)
    if not aligned:
        bboxes1 = bboxes1[:, None]
    ious.copy_(_iou(bboxes1, bboxes2, offset, mode))


def _iou(boxes1: Tensor, boxes2: Tensor, offset: int, mode: int = IOU) -> Tensor:
    """Overlaps of boxes (..., 4), broadcast against each other."""
    sides = torch.minimum(boxes1[..., 2:], boxes2[..., 2:]) - torch.maximum(boxes1[..., :2], boxes2[..., :2])
    sides = (sides + offset).clamp_(min=0)
    overlap = sides[..., 0] * sides[..., 1]
    base = _area(boxes1, offset)
    if mode == IOU:
        base = base + _area(boxes2, offset) - overlap
    if base.is_cuda:
        base = base.clamp(min=offset)  # only the CUDA kernel does this
    return overlap / base


def _area(boxes: Tensor, offset: int) -> Tensor:
    sides = boxes[..., 2:] - boxes[..., :2] + offset
    return sides[..., 0] * sides[..., 1]


def _greedy(suppresses: Tensor) -> Tensor:
    """A mask (N,) of the boxes that survive. suppresses[i, j], upper triangular: a surviving box i removes box j."""
    alive = suppresses.new_ones(len(suppresses))
    while True:  # round k settles at least the first k boxes
        survivors = ~(suppresses & alive[:, None]).any(dim=0)
        if torch.equal(survivors, alive):
            return alive
        alive = survivors


def _first_best(scores: np.ndarray) -> int:
    """Position of the first maximum, as a C loop finds it: a NaN in front wins, any other NaN loses."""
    best = int(scores.argmax())
    if np.isnan(scores[best]):
        best = 0 if np.isnan(scores[0]) else int(np.where(np.isnan(scores), -np.inf, scores).argmax())
    return best


def _compact(low: np.ndarray, rest: np.ndarray, index: np.ndarray) -> int:
    """Drop the columns marked `low`, and return how many remain. The last good column moves into the first hole, ..."""
    remaining = int((~low).sum())
    holes = np.flatnonzero(low[:remaining])
    movers = remaining + np.flatnonzero(~low[remaining:])[::-1]
    rest[:, holes] = rest[:, movers]
    index[holes] = index[movers]
    return remaining
