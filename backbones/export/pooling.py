"""Adaptive average pooling of maps of free size, as products with matrices that the map's size gives.

Converters of ``nn.AdaptiveAvgPool2d`` keep the size that a network was recorded with.
"""

import torch
from torch import Tensor, nn


class AveragePool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` to ``size``, (height, width) in cells: (B, C, H, W) to (B, C, height, width)."""

    def __init__(self, size: tuple[int, int]):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        (height, width), (rows, columns) = x.shape[-2:], self.size
        return averaging(rows, height, x) @ x @ averaging(columns, width, x).T


def averaging(cells: int, side: int, like: Tensor) -> Tensor:
    """The matrix (cells, side) that averages ``side`` pixels in cells, which overlap where pixels are shared."""
    cell = torch.arange(cells, device=like.device)[:, None]
    pixel = torch.arange(side, device=like.device)
    first, end = cell * side // cells, ((cell + 1) * side + cells - 1) // cells
    inside = ((pixel >= first) & (pixel < end)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)


def free_pools(net: nn.Module) -> None:
    """Replaces adaptive average pooling to several cells inside a network, in place."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if type(child) is nn.AdaptiveAvgPool2d and (size := size_of(child)) is not None:
                setattr(module, name, AveragePool(size))


def size_of(pool: nn.AdaptiveAvgPool2d) -> tuple[int, int] | None:
    """The cells of a pool; None where it keeps a side, or has one cell, which converters get right."""
    size = pool.output_size
    height, width = (size, size) if isinstance(size, int) else size
    return None if None in (height, width) or height == width == 1 else (height, width)
