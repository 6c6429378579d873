"""Deformable RoI pooling (arXiv:1703.06211): average pooling in bins that an offset moves.

Shapes:

    input     (B, C, H, W)
    rois      (K, 5): batch index, x1, y1, x2, y2 in image pixels
    offset    (K, 2, PH, PW): x, then y, of each bin, in units of gamma times the region's side; or empty
    output    (K, C, PH, PW)

Semantics: mmcv/ops/csrc/common/cuda/deform_roi_pool_cuda_kernel.cuh.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ziggurat.mmcv_ops.precision import as_float, at_least_float32
from ziggurat.mmcv_ops.regions import divided, first_bins, neighbours, same_size


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fill `output`."""
    if output.numel() == 0:
        return
    pixels = _pixels(at_least_float32(input))
    geometry = (pooled_height, pooled_width, as_float(spatial_scale), sampling_ratio, as_float(gamma))
    for chosen, count, (flat, weights), _, _ in _samples(input, rois, offset, geometry):
        total = sum(weight[..., None] * pixels[at] for at, weight in zip(flat, weights, strict=True))
        output[chosen] = (total.sum(dim=(3, 4)) / max(count, 1)).permute(0, 3, 1, 2).to(output.dtype)


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Add to `grad_input` and to `grad_offset`."""
    if grad_output.numel() == 0:
        return
    pixels = _pixels(at_least_float32(input))
    geometry = (pooled_height, pooled_width, as_float(spatial_scale), sampling_ratio, as_float(gamma))
    grad_pixels = torch.zeros_like(pixels)
    for chosen, count, (flat, weights), (y, x), moved in _samples(input, rois, offset, geometry):
        grad = at_least_float32(grad_output)[chosen].permute(0, 2, 3, 1)[:, :, :, None, None] / max(count, 1)
        for at, weight in zip(flat, weights, strict=True):
            grad_pixels.index_add_(0, at.flatten(), (grad * weight[..., None]).flatten(0, 4))
        if offset.numel() and count:
            # A sample beyond the border has the value of the border, and yet the slope of the plane inside.
            inside = sum(weights) > 0
            corners = [((grad * pixels[at]).sum(dim=-1)).where(inside, 0.0) for at in flat]
            slopes = _slopes(corners, y, x)
            for axis, (slope, size) in enumerate(zip(slopes, moved, strict=True)):
                grad_offset.view(-1, 2, pooled_height, pooled_width)[chosen, axis] += (
                    size[:, None, None] * slope.sum(dim=(3, 4))
                ).to(grad_offset.dtype)
    batch, channels, height, width = input.shape
    grad_input += grad_pixels.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _slopes(corners: list[Tensor], y: tuple[Tensor, ...], x: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Slopes along x and y of a plane through four corners: (low y, low x), (low y, high x), (high, low), (high, high).

    `y` and `x` are the sample's coordinate, the low pixel's and the high pixel's.
    """
    low_low, low_high, high_low, high_high = corners
    (at_y, low_y, high_y), (at_x, low_x, high_x) = y, x
    along_x = (high_high - high_low) * (at_y - low_y) + (low_high - low_low) * (high_y - at_y)
    along_y = (high_high - low_high) * (at_x - low_x) + (high_low - low_low) * (high_x - at_x)
    return along_x, along_y


def _samples(input: Tensor, rois: Tensor, offset: Tensor, geometry: tuple) -> Iterator[tuple]:
    """The samples of the bins, for groups of regions with equal grids of g x h samples a bin.

    Yields:
        the regions' indices; the number of samples in a bin; the four pixels around each sample (K, PH, PW, g, h), as
        rows of ``_pixels``, and their weights; (coordinate, low, high) along y (K, PH, PW, g, 1) and along x
        (K, PH, PW, 1, h); the distance (K,) that an offset of 1 moves a sample, along x and along y.
    """
    pooled_height, pooled_width, scale, ratio, gamma = geometry
    _, channels, height, width = input.shape
    rois = rois.to(at_least_float32(input).dtype)
    starts, bins = first_bins(rois, scale, (pooled_height, pooled_width), aligned=True)
    sizes = rois[:, [4, 3]] * scale - 0.5 - starts  # (y, x)
    grids = torch.full_like(bins, ratio) if ratio > 0 else bins.float().ceil().clamp(min=0)
    for chosen, (grid_h, grid_w) in same_size(grids, channels * pooled_height * pooled_width):
        moved = gamma * sizes[chosen]
        first_y, first_x = starts[chosen].view(-1, 2, 1, 1).unbind(1)
        if offset.numel():
            shift = offset.view(-1, 2, pooled_height, pooled_width)[chosen].to(rois.dtype)
            first_y = first_y + moved[:, 0, None, None] * shift[:, 1]
            first_x = first_x + moved[:, 1, None, None] * shift[:, 0]
        bin_y, bin_x = bins[chosen].view(-1, 2, 1, 1).unbind(1)
        step_y = torch.arange(pooled_height, device=rois.device, dtype=rois.dtype)[:, None]
        step_x = torch.arange(pooled_width, device=rois.device, dtype=rois.dtype)
        y = (first_y + step_y * bin_y)[..., None] + _inside_bin(bin_y, grid_h)  # (K, PH, PW or 1, g)
        x = (first_x + step_x * bin_x)[..., None] + _inside_bin(bin_x, grid_w)
        y, x = y.expand(-1, -1, pooled_width, -1)[..., None], x.expand(-1, pooled_height, -1, -1)[..., None, :]
        y_low, y_high, y_weights = neighbours(y, height)
        x_low, x_high, x_weights = neighbours(x, width)
        row = (rois[chosen, 0].long() * height).view(-1, 1, 1, 1, 1)
        flat, weights = [], []
        for y_at, y_weight in zip((y_low, y_high), y_weights, strict=True):
            for x_at, x_weight in zip((x_low, x_high), x_weights, strict=True):
                flat.append((row + y_at) * width + x_at)
                weights.append(y_weight * x_weight)
        count = grid_h * grid_w
        yield chosen, count, (flat, weights), ((y, y_low, y_high), (x, x_low, x_high)), (moved[:, 1], moved[:, 0])


def _inside_bin(size: Tensor, grid: int) -> Tensor:
    """Places (K, 1, 1, grid) of a bin's samples along one axis, from the bin's start; `size` (K, 1, 1) is the bin's."""
    point = torch.arange(grid, device=size.device, dtype=size.dtype) + 0.5
    return divided(point * size[..., None], grid)


def _pixels(input: Tensor) -> Tensor:
    """Maps (B, C, H, W) as one row (C,) a pixel."""
    return input.permute(0, 2, 3, 1).reshape(-1, input.shape[1])
