"""The 1x1 convolution and GELU, as fast as a CPU's libraries have them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 100  # positions of a map up to which a matrix product is faster than oneDNN's convolution


class Conv1x1(nn.Conv2d):
    """A 1x1 convolution: (B, in_channels, H, W), best with the channels last in memory, to (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and not torch.compiler.is_compiling() and x.shape[2] * x.shape[3] <= FEW:
            return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        return super().forward(x)


def gelu(x: Tensor) -> Tensor:
    """GELU, in place where no gradient needs the input: fresh memory of that size costs as much as the values."""
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and x.requires_grad):
        return F.gelu(x)
    return torch.ops.aten.gelu_(x)
