"""Suppression of lane lines (CLRNet, arXiv:2203.10350).

A line has 77 numbers: two scores, the start along y (0..1), the start along x, the length in rows, and x in each of 72
rows. Semantics: mmcv/ops/csrc/common/cuda/line_nms_cuda_kernel.cuh.
"""

import torch
from torch import Tensor

from ziggurat.mmcv_ops.precision import as_float, at_least_float32

ROWS = 72
FIRST = 5  # index of the first row's x
NUMBERS = FIRST + ROWS


def line_nms_forward(boxes: Tensor, scores: Tensor, thresh: float, top_k: int) -> list[Tensor]:
    """Keeps the best line, drops the lines that are near it, and so on with the rest.

    Two lines are near if their mean distance over the rows that both have is below the threshold.

    Args:
        boxes: lines (N, 77).
        scores: (N,).
        thresh: mean distance, in units of x.
        top_k: how many lines to keep at most.

    Returns:
        Indices (N,) of the kept lines, best first, then zeros; their number (); for each line 1 + the place of the
        last kept line that it is near, or 0 for a line that came too late.
    """
    if boxes.shape[1] != NUMBERS:
        raise RuntimeError("Wrong number of offsets. Please adjust `PROP_SIZE`")
    order = scores.sort(dim=0, descending=True, stable=True).indices
    near = _near(at_least_float32(boxes)[order], as_float(thresh))
    parent = order.new_zeros(len(order))
    removed = near.new_zeros(len(order))
    kept: list[int] = []
    for i in range(len(order)):
        if len(kept) == top_k:
            break
        if not removed[i]:
            removed |= near[i]
            parent[order[near[i]]] = len(kept) + 1
            parent[order[i]] = len(kept) + 1
            kept.append(i)
    keep = torch.zeros_like(order)
    keep[: len(kept)] = order[kept]
    return [keep, torch.tensor(len(kept), device=order.device), parent]


def _near(lines: Tensor, threshold: float) -> Tensor:
    """A mask (N, N): whether a line and a later one are near each other."""
    start = (lines[:, 2] * (ROWS - 1) + 0.5).trunc().long()
    end = start + lines[:, 4].trunc().long() - 1
    first = torch.maximum(start[:, None], start)
    last = torch.minimum(end[:, None], end).clamp(max=ROWS - 1)
    rows = torch.arange(ROWS, device=lines.device)
    x = lines[:, FIRST:]
    near = torch.zeros(len(lines), len(lines), dtype=torch.bool, device=lines.device)
    for i in range(len(lines)):
        shared = (rows >= first[i][:, None]) & (rows <= last[i][:, None])
        distance = ((x[i] - x).abs() * shared).sum(dim=1)
        near[i] = distance < threshold * (last[i] - first[i] + 1)
    return (near & (last >= first) & (first >= 0)).triu(diagonal=1)
