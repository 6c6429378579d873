"""Resizing of tables that were learned for one map size."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def resized(table: Tensor, size: tuple[int, int], **how: Any) -> Tensor:
    """``F.interpolate(table, size, **how)``; the (B, C, H, W) table itself where it has that size already.

    A compiled or exported graph always resizes, since a graph that does not ask for the size serves every size.
    """
    if not torch.compiler.is_compiling() and table.shape[2:] == size:
        return table
    return F.interpolate(table, size=size, **how)
