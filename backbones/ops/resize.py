"""Resizing of tables that were learned for one map size."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def resized(table: Tensor, size: tuple[int, int], **how: Any) -> Tensor:
    """``F.interpolate(table, size, **how)`` of a (B, C, H, W) table; the table itself if it has that size.

    A compiled or exported graph always resizes. So the graph does not depend on the size, and serves every size.
    """
    if not torch.compiler.is_compiling() and table.shape[2:] == size:
        return table
    return F.interpolate(table, size=size, **how)
