"""RoIAlign and RoIPool on feature maps (B, C, H, W) and regions (K, 5): batch index, x1, y1, x2, y2 in image pixels.

Outputs are (K, C, PH, PW). Semantics: mmcv/ops/csrc/pytorch/cpu/roi_align.cpp and the CUDA kernels of both.
"""

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from ziggurat.mmcv_ops import roi_products
from ziggurat.mmcv_ops.precision import as_float, at_least_float32
from ziggurat.mmcv_ops.regions import divided, first_bins, neighbours, planes, same_size

MAX = 0  # pool_mode; 1 is average
FLT_MAX = torch.finfo(torch.float32).max


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill `output`. In max mode also fill `argmax_y` and `argmax_x` with the place of the largest sample, or -1."""
    if output.numel() == 0:
        return
    dtype, scale, pooled = (
        output.dtype,
        as_float(spatial_scale),
        (aligned_height, aligned_width),
    )
    input = at_least_float32(input)
    rois = rois.to(input.dtype)
    if pool_mode != MAX:
        by = roi_products.averages if roi_products.is_faster("averages", input, rois, scale) else plain_averages
        output.copy_(by(input, rois, pooled, scale, sampling_ratio, aligned))
        return
    _, channels, height, width = input.shape
    pixels = input.permute(0, 2, 3, 1).reshape(-1, channels)
    starts, bins = first_bins(rois, scale, pooled, aligned)
    grids = torch.full_like(bins, sampling_ratio) if sampling_ratio > 0 else bins.float().ceil().clamp(min=0)
    lowest = -FLT_MAX if input.is_cuda else -10000.0  # where the compiled search for the maximum starts
    for chosen, (grid_h, grid_w) in same_size(grids, channels * aligned_height * aligned_width):
        if grid_h * grid_w == 0:
            output[chosen], argmax_y[chosen], argmax_x[chosen] = lowest, -1, -1
            continue
        start, size = starts[chosen], bins[chosen]
        ys = _samples(start[:, 0], size[:, 0], aligned_height, grid_h)  # (K, PH, grid_h)
        xs = _samples(start[:, 1], size[:, 1], aligned_width, grid_w)
        row = rois[chosen, 0].long() * height
        values = _bilinear(pixels, row, ys, xs, height, width)  # (K, PH, grid_h, PW, grid_w, C)
        best, where = values.permute(0, 5, 1, 3, 2, 4).flatten(4).max(dim=4)  # the first of equal samples
        found = best > lowest
        y = _pick(ys[:, None, :, None], where // grid_w)
        x = _pick(xs[:, None, None], where % grid_w)
        output[chosen] = best.where(found, lowest).to(dtype)
        argmax_y[chosen] = y.where(found, -1.0).to(dtype)
        argmax_x[chosen] = x.where(found, -1.0).to(dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of the feature maps to `grad_input` (B, C, H, W)."""
    if grad_output.numel() == 0 or grad_input.numel() == 0:
        return
    grad = at_least_float32(grad_output)
    rois = rois.to(grad.dtype)
    _, channels, height, width = grad_input.shape
    if pool_mode != MAX:
        scale = as_float(spatial_scale)
        by = roi_products.gradient if roi_products.is_faster("gradient", grad_input, rois, scale) else plain_gradient
        grad_input += by(grad, rois, grad_input.shape, scale, sampling_ratio, aligned)
        return
    y, x = at_least_float32(argmax_y), at_least_float32(argmax_x)
    y_low, y_high, y_weights = neighbours(y, height)
    x_low, x_high, x_weights = neighbours(x, width)
    grad = grad * (y != -1)  # -1 marks an empty bin
    plane = planes(rois, channels) * height
    gathered = grad.new_zeros(grad_input.numel())
    for y_at, y_weight in zip((y_low, y_high), y_weights, strict=True):
        for x_at, x_weight in zip((x_low, x_high), x_weights, strict=True):
            at = (plane + y_at) * width + x_at
            gathered.index_add_(0, at.flatten(), (grad * (y_weight * x_weight)).flatten())
    grad_input += gathered.view_as(grad_input)


def plain_averages(
    maps: Tensor, rois: Tensor, pooled: tuple[int, int], scale: float, ratio: int, aligned: bool
) -> Tensor:
    """torchvision's RoIAlign: (K, C, PH, PW)."""
    return torch.ops.torchvision.roi_align(maps, rois, scale, *pooled, ratio, aligned)


def plain_gradient(
    grad: Tensor, rois: Tensor, size: tuple[int, ...], scale: float, ratio: int, aligned: bool
) -> Tensor:
    """torchvision's gradient of the maps, of shape ``size``."""
    return torch.ops.torchvision._roi_align_backward(grad, rois, scale, *grad.shape[2:], *size, ratio, aligned)


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill `output`, and `argmax` (int) with the flat pixel y * W + x of the maximum, or -1 for an empty bin.

    A bin reaches from the floor of its start to the ceiling of its end. The output of a region without area stays as it
    is.
    """
    if output.numel() == 0:
        return
    input = at_least_float32(input)
    rois = rois.to(input.dtype)
    _, channels, height, width = input.shape
    pixels = input.permute(0, 2, 3, 1).reshape(-1, channels)
    scale = as_float(spatial_scale)
    starts, ends = rois[:, [2, 1]] * scale, (rois[:, [4, 3]] + 1) * scale  # (y, x)
    sizes = ends - starts
    (y_first, y_last), (x_first, x_last) = (
        _pool_edges(starts[:, axis], divided(sizes[:, axis], bins), bins, limit)
        for axis, (bins, limit) in enumerate(((pooled_height, height), (pooled_width, width)))
    )
    extents = torch.stack([(y_last - y_first).amax(1), (x_last - x_first).amax(1)], dim=1).clamp(min=0)
    sound = (sizes > 0).all(dim=1)
    for chosen, (rows, columns) in same_size(extents, channels * pooled_height * pooled_width, sound):
        if rows * columns == 0:
            output[chosen], argmax[chosen] = 0, -1
            continue
        y = y_first[chosen, :, None] + torch.arange(rows, device=input.device)  # (K, PH, rows)
        x = x_first[chosen, :, None] + torch.arange(columns, device=input.device)
        y_in, x_in = y < y_last[chosen, :, None], x < x_last[chosen, :, None]
        flat = y.clamp(max=height - 1)[..., None, None] * width + x.clamp(max=width - 1)[:, None, None]
        inside = y_in[..., None, None] & x_in[:, None, None]  # (K, PH, rows, PW, columns)
        values = pixels[flat + (rois[chosen, 0].long() * height * width).view(-1, 1, 1, 1, 1)]
        values = values.masked_fill(~inside[..., None], -torch.inf)
        best, where = values.permute(0, 5, 1, 3, 2, 4).flatten(4).max(dim=4)
        filled = inside.permute(0, 1, 3, 2, 4).flatten(3).any(dim=3)[:, None].expand_as(best)
        pixel = _pick(flat.permute(0, 1, 3, 2, 4).flatten(3)[:, None], where)
        output[chosen] = best.where(filled, 0.0).to(output.dtype)
        argmax[chosen] = pixel.where(filled, -1).to(argmax.dtype)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add the gradient of the feature maps to `grad_input` (B, C, H, W)."""
    if grad_output.numel() == 0 or grad_input.numel() == 0:
        return
    _, channels, height, width = grad_input.shape
    grad = at_least_float32(grad_output) * (argmax != -1)
    at = planes(rois, channels) * (height * width) + argmax.clamp(min=0)
    gathered = grad.new_zeros(grad_input.numel()).index_add_(0, at.flatten(), grad.flatten())
    grad_input += gathered.view_as(grad_input)


def _samples(start: Tensor, size: Tensor, bins: int, grid: int) -> Tensor:
    """Coordinates (K, bins, grid) of the samples along one axis, by the compiled loop's operations in their order."""
    step = torch.arange(bins, device=start.device, dtype=start.dtype)
    point = torch.arange(grid, device=start.device, dtype=start.dtype) + 0.5
    first = start[:, None] + step * size[:, None]
    return first[:, :, None] + divided(point * size[:, None], grid)[:, None]


def _bilinear(pixels: Tensor, row: Tensor, ys: Tensor, xs: Tensor, height: int, width: int) -> Tensor:
    """Values (K, PH, grid_h, PW, grid_w, C) of `pixels` (B * H * W, C); `row` (K,) is the first row of each map."""
    y_low, y_high, y_weights = neighbours(ys, height)
    x_low, x_high, x_weights = neighbours(xs, width)
    total = 0
    for y_at, y_weight in zip((y_low, y_high), y_weights, strict=True):
        for x_at, x_weight in zip((x_low, x_high), x_weights, strict=True):
            at = (row[:, None, None] + y_at)[..., None, None] * width + x_at[:, None, None]
            weight = y_weight[..., None, None] * x_weight[:, None, None]
            total = total + weight[..., None] * pixels[at]
    return total


def _pool_edges(start: Tensor, size: Tensor, bins: int, limit: int) -> tuple[Tensor, Tensor]:
    """First pixel of each bin and the one after its last, (K, bins), within 0 and `limit`."""
    step = torch.arange(bins + 1, device=start.device, dtype=start.dtype)
    edges = (step * size[:, None] + start[:, None]).float()  # the kernel rounds with floorf and ceilf
    first, last = edges[:, :-1].floor(), edges[:, 1:].ceil()
    return first.clamp(0, limit).long(), last.clamp(0, limit).long()


def _pick(values: Tensor, where: Tensor) -> Tensor:
    """values[..., where], with the leading dimensions broadcast."""
    return values.expand(*where.shape, values.shape[-1]).gather(-1, where[..., None]).squeeze(-1)
