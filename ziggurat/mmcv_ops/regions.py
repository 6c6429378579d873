"""Regions of interest on feature maps: their bins, the places of samples, and the pixels around a place.

Regions are (K, 5): batch index, x1, y1, x2, y2 in image pixels.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = 2**23  # number of values that are sampled at a time


def first_bins(rois: Tensor, scale: float, pooled: tuple[int, int], aligned: bool) -> tuple[Tensor, Tensor]:
    """Start and size (K, 2) of each region's first bin, as (y, x) on the feature map."""
    shift = 0.5 if aligned else 0.0
    starts, ends = rois[:, [2, 1]] * scale - shift, rois[:, [4, 3]] * scale - shift
    sizes = ends - starts
    if not aligned:
        sizes = sizes.clamp(min=1)
    return starts, sizes / sizes.new_tensor(pooled)


def same_size(
    sizes: Tensor, values_per_sample: int, usable: Tensor | None = None
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Groups of regions with equal rows of `sizes` (K, 2), at most CHUNK values each: their indices, and the row."""
    for size in sizes.unique(dim=0):
        same = (sizes == size).all(dim=1)
        if usable is not None:
            same &= usable
        rows, columns = (int(side) for side in size)
        run = max(1, CHUNK // max(1, values_per_sample * rows * columns))
        for chosen in same.nonzero().flatten().split(run):
            if chosen.numel():
                yield chosen, (rows, columns)


def divided(values: Tensor, by: int) -> Tensor:
    """The exact quotient. CUDA divides by a number as a product with its reciprocal, which rounds differently."""
    return values / torch.full_like(values, by)


def neighbours(at: Tensor, size: int) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """The two pixels around each coordinate, clamped at the border, and their weights, 0 beyond a pixel outside."""
    inside = (at >= -1) & (at <= size)
    at = at.where(inside, 0.0).clamp(min=0)
    low = at.long()
    last = low >= size - 1
    low = low.clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    fraction = (at - low).where(~last, 0.0)
    return low, high, ((1 - fraction) * inside, fraction * inside)


def planes(rois: Tensor, channels: int) -> Tensor:
    """Index (K, C, 1, 1) of the (H, W) plane that a channel of a region came from."""
    plane = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    return plane[:, :, None, None]
