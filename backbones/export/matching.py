"""Found objects of an exported file beside those of PyTorch: sets, whose order is of no account."""

from collections.abc import Sequence

import torch
from torch import Tensor

from backbones.export.errors import TOLERANCES, Errors

NEAR = TOLERANCES["float32"].largest  # of the image's side, and of a score: objects farther apart are not the same one


def errors_of_objects(ours: Sequence[Tensor], theirs: Sequence[Tensor], side: int) -> Errors:
    """The errors of found objects. Rows of score 0 hold none.

    Each of PyTorch's objects, the best first, takes the nearest of ours with its label. The error of a pair is the
    largest difference of its corners as a share of ``side``, of its scores, or of its masks.

    Args:
        ours: of a file: boxes (N, 4), scores (N,), labels (N,), and maybe masks (N, h, w).
        theirs: PyTorch's, of the same shapes. NaN, or another shape, is an infinite error.
        side: the longer side of the image in pixels.
    """
    same_shapes = [t.shape for t in ours] == [t.shape for t in theirs]
    if not same_shapes or not all(t.isfinite().all() for t in (*ours, *theirs)):
        return Errors(float("inf"), float("inf"), 1.0)
    ours, theirs = ([t[rows[1] > 0].double() for t in rows] for rows in (ours, theirs))
    errors = matched(ours, theirs, side)
    total = len(ours[1]) + len(theirs[1])
    missed = 1 - 2 * len(errors) / total if total else 0.0
    return Errors(max(errors, default=0.0), sum(errors) / max(1, len(errors)), missed)


def matched(ours: Sequence[Tensor], theirs: Sequence[Tensor], side: int) -> list[float]:
    """The errors of the pairs of same objects."""
    boxes = (ours[0][None] - theirs[0][:, None]).abs().amax(dim=-1) / side
    scores = (ours[1][None] - theirs[1][:, None]).abs()
    far = torch.maximum(boxes, scores).masked_fill(ours[2][None] != theirs[2][:, None], float("inf"))
    errors = []
    for i in range(len(far)):
        if not far.shape[1] or far[i].min() > NEAR:
            continue
        j = int(far[i].argmin())
        masks = [(a[j] - b[i]).abs().max().item() for a, b in zip(ours[3:], theirs[3:], strict=True)]
        errors.append(max([far[i, j].item(), *masks]))
        far[:, j] = float("inf")
    return errors
