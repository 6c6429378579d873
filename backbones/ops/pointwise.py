"""The 1x1 convolution and GELU, as fast as a CPU's libraries have them."""

import torch
import torch.nn.functional as F
from torch import Tensor

FEW = 100  # positions of a map up to which a matrix product is faster than oneDNN's convolution


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 1x1 convolution of a map.

    Args:
        x: (B, C, H, W), best with the channels last in memory.
        weight: (D, C), as a linear layer has it, or (D, C, 1, 1).
        bias: (D,).

    Returns:
        (B, D, H, W).
    """
    if x.device.type == "cpu" and not torch.compiler.is_compiling() and x.shape[2] * x.shape[3] <= FEW:
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight.view(*weight.shape[:2], 1, 1), bias)


def gelu(x: Tensor) -> Tensor:
    """GELU, in place where no gradient needs the input: fresh memory of that size costs as much as the values."""
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and x.requires_grad):
        return F.gelu(x)
    return torch.ops.aten.gelu_(x)
