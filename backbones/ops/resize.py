"""Resizing of tables that were learned for one map size."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.ops.exporting import are_free, is_exporting


def resized(table: Tensor, size: tuple[int, int], **how: Any) -> Tensor:
    """``F.interpolate(table, size, **how)`` of a (B, C, H, W) table; the table itself if it has that size.

    A graph that is compiled, or exported for free sizes, always resizes. So the graph does not depend on the size, and
    serves every size.
    """
    serves_one_size = not torch.compiler.is_compiling() or (is_exporting() and not are_free(*size))
    if serves_one_size and table.shape[2:] == size:
        return table
    return F.interpolate(table, size=size, **how)
