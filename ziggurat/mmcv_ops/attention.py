"""Multi-scale deformable attention (Deformable DETR, arXiv:2010.04159).

Shapes, for L levels, Q queries and P samples per level:

    value                (B, S, heads, D): the S pixels of all levels, one level after the other
    spatial_shapes       (L, 2): height and width of each level
    level_start_index    (L,): number of each level's first pixel
    sampling_locations   (B, Q, heads, L, P, 2): x and y in 0..1 of the level
    attention_weights    (B, Q, heads, L, P)

Semantics: mmcv/ops/csrc/common/cuda/ms_deform_attn_cuda_kernel.cuh.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.mmcv_ops.precision import at_least_float32


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """The attended values (B, Q, heads * D). `im2col_step` has no effect."""
    operands = [at_least_float32(tensor) for tensor in (value, sampling_locations, attention_weights)]
    return _attend(*operands, value_spatial_shapes, value_level_start_index).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Add to `grad_value`; fill `grad_sampling_loc` and `grad_attn_weight`."""
    if grad_output.numel() == 0 or value.numel() == 0 or sampling_locations.numel() == 0:
        return
    with torch.enable_grad():
        operands = [
            at_least_float32(tensor).detach().requires_grad_()
            for tensor in (value, sampling_locations, attention_weights)
        ]
        output = _attend(*operands, value_spatial_shapes, value_level_start_index)
        grads = torch.autograd.grad(output, operands, at_least_float32(grad_output))
    grad_value += grads[0]
    grad_sampling_loc.copy_(grads[1])
    grad_attn_weight.copy_(grads[2])


def _attend(value: Tensor, locations: Tensor, attention: Tensor, shapes: Tensor, starts: Tensor) -> Tensor:
    batch, total, heads, dim = value.shape
    queries = locations.shape[1]
    if value.numel() == 0 or locations.numel() == 0:
        return value.new_zeros(batch, queries, heads * dim)
    shapes, starts = shapes.to(value.device), starts.to(value.device)

    # The result for a query and head is a weighted sum of rows of `value`, four rows per sample. embedding_bag gathers
    # and sums in one operation.
    extent = shapes.flip(1)[:, None]  # (L, 1, 2) as (W, H)
    at = locations * extent.to(locations.dtype) - 0.5  # pixel centres are whole numbers
    inside = ((at > -1) & (at < extent)).all(dim=-1)
    low = at.detach().where(inside[..., None], 0.0).floor()
    fraction = at - low
    low = low.long()
    head = torch.arange(heads, device=value.device)[:, None, None]
    first = torch.arange(batch, device=value.device).view(-1, 1, 1, 1, 1) * total + starts[:, None]
    width = shapes[:, 1, None]
    rows, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            pixel = torch.stack((low[..., 0] + dx, low[..., 1] + dy), dim=-1)
            valid = inside & ((pixel >= 0) & (pixel < extent)).all(dim=-1)
            row = (first + pixel[..., 1] * width + pixel[..., 0]) * heads + head
            weight_x = fraction[..., 0] if dx else 1 - fraction[..., 0]
            weight_y = fraction[..., 1] if dy else 1 - fraction[..., 1]
            rows.append(row.where(valid, 0))
            weights.append((weight_y * weight_x * attention).where(valid, 0.0))
    rows, weights = (torch.stack(parts, dim=-1).reshape(batch * queries * heads, -1) for parts in (rows, weights))
    table = value.reshape(batch * total * heads, dim)
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights).view(batch, queries, heads * dim)
