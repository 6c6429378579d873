"""RoIAlign's averages on a CPU, by matrix products.

A bin's value is an average of bilinear samples. Its weights are products of a weight of the row and one of the column.
So a region's values are A M B^T, with the map M, and the weights A of the rows and B of the columns. The gradient of M
is A^T G B, with the bins' gradients G. The channels lie last in memory, so both products are large and fast.
torchvision's loops take four corners of every sample, channel by channel, for gradients on one core.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ziggurat.mmcv_ops.regions import first_bins, neighbours

FEWEST = {"averages": 128, "gradient": 16}  # channels; with fewer, torchvision's loop is as fast
FARTHEST = 10_000  # pixels of a map; regions beyond, or not finite, are left to torchvision


def is_faster(what: str, maps: Tensor, rois: Tensor, scale: float) -> bool:
    """Whether "averages" or "gradient" of this file is the fast way for maps (B, C, H, W) and regions (K, 5)."""
    if maps.device.type != "cpu" or maps.shape[1] < FEWEST[what]:
        return False
    return bool((rois[:, 1:] * scale).abs().max() < FARTHEST)  # False for NaN


def averages(maps: Tensor, rois: Tensor, pooled: tuple[int, int], scale: float, ratio: int, aligned: bool) -> Tensor:
    """The bins' values (K, C, PH, PW).

    Args:
        maps: (B, C, H, W), float32 or float64.
        rois: (K, 5) in the type of ``maps``.
        pooled: PH, PW.
        scale, ratio, aligned: as in mmcv.
    """
    pixels = maps.permute(0, 2, 3, 1).contiguous()
    found = maps.new_empty(len(rois), *pooled, maps.shape[1])
    for values, window, rows, columns in windows(pixels, found, rois, scale, ratio, aligned):
        down = torch.mm(rows, window).unflatten(1, (columns.shape[1], -1))  # (PH, columns, C)
        torch.matmul(columns, down, out=values)
    return found.permute(0, 3, 1, 2)


def gradient(grad: Tensor, rois: Tensor, size: tuple[int, ...], scale: float, ratio: int, aligned: bool) -> Tensor:
    """The gradient of the maps, of shape ``size`` (B, C, H, W), from that of the bins (K, C, PH, PW)."""
    batch, channels, height, width = size
    total = grad.new_zeros(batch, height, width, channels)
    bins = grad.permute(0, 2, 3, 1).contiguous()
    for values, window, rows, columns in windows(total, bins, rois, scale, ratio, aligned):
        across = torch.matmul(columns.t(), values)  # (PH, columns, C)
        window.addmm_(rows.t(), across.flatten(1))
    return total.permute(0, 3, 1, 2)


def windows(
    pixels: Tensor, bins: Tensor, rois: Tensor, scale: float, ratio: int, aligned: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """For each region its bins, the part of the map around it, and the weights of its rows and columns.

    Args:
        pixels: (B, H, W, C).
        bins: (K, PH, PW, C).

    Yields:
        Views of the bins (PH, PW, C) and of the pixels (rows, columns * C), and weights (PH, rows) and (PW, columns).
    """
    _, height, width, channels = pixels.shape
    pooled = (bins.shape[1], bins.shape[2])
    starts, sizes = first_bins(rois, scale, pooled, aligned)
    tops, of_rows = weights(starts[:, 0], sizes[:, 0], pooled[0], height, ratio)
    lefts, of_columns = weights(starts[:, 1], sizes[:, 1], pooled[1], width, ratio)
    images = rois[:, 0].int().tolist()
    for image, top, left, rows, columns, values in zip(images, tops, lefts, of_rows, of_columns, bins, strict=True):
        window = pixels[image, top : top + rows.shape[1], left : left + columns.shape[1]]
        strides = (width * channels, 1)
        yield values, window.as_strided((rows.shape[1], columns.shape[1] * channels), strides), rows, columns


def weights(start: Tensor, size: Tensor, bins: int, limit: int, ratio: int) -> tuple[list[int], list[Tensor]]:
    """How much each pixel of an axis counts in the average of each bin.

    Args:
        start, size: (K,) of the first bin.
        bins: of a region along the axis.
        limit: pixels of the axis.
        ratio: samples of a bin. Up to 0: one for each pixel that the bin covers.

    Returns:
        For each region the first pixel that counts, and the weights (bins, pixels from there on).
    """
    grid = torch.full_like(size, ratio) if ratio > 0 else size.ceil().clamp(min=1)
    has_samples = torch.ones_like(size, dtype=torch.bool) if ratio > 0 else size > 0
    point = torch.arange(int(grid.max()), dtype=start.dtype)
    step = torch.arange(bins, dtype=start.dtype)
    within = (point + 0.5) * size[:, None] / grid[:, None]
    at = (start[:, None] + step * size[:, None])[:, :, None] + within[:, None]  # (K, bins, samples)
    counted = (point < grid[:, None])[:, None] & has_samples[:, None, None]
    low, high, (low_weight, high_weight) = neighbours(at, limit)
    low_weight, high_weight = (weight * counted / grid[:, None, None] for weight in (low_weight, high_weight))
    weighs = (low_weight > 0) | (high_weight > 0)
    first = torch.where(weighs, low, limit - 1).flatten(1).amin(1)
    last = torch.where(weighs, high, 0).flatten(1).amax(1).maximum(first)
    low, high = ((pixel - first[:, None, None]).clamp(min=0) * weighs for pixel in (low, high))
    found = start.new_zeros(len(start), bins, int((last - first).max()) + 1)
    found.scatter_add_(2, low, low_weight * weighs).scatter_add_(2, high, high_weight * weighs)
    return first.tolist(), [one[:, :used] for one, used in zip(found, (last - first + 1).tolist(), strict=True)]
