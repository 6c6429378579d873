"""The 1x1 convolution and GELU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones import cpu


class Conv1x1(nn.Conv2d):
    """A 1x1 convolution: (B, in_channels, H, W), best with the channels last in memory, to (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if cpu.product_is_faster(x):
            return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        return super().forward(x)


def conv_gelu(conv: nn.Module, x: Tensor) -> Tensor:
    """``F.gelu(conv(x))``. GELU overwrites the result of ``conv`` if nothing else can hold that result.

    A second tensor of that size would take as long as GELU itself, and would raise the peak memory.
    """
    y = conv(x)
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or (torch.is_grad_enabled() and y.requires_grad):
        return F.gelu(y)
    return torch.ops.aten.gelu_(y) if y is not x and result_is_ours(conv) else F.gelu(y)


def result_is_ours(conv: nn.Module) -> bool:
    """Whether nobody but the caller of ``conv`` can hold its result.

    A forward hook may hold it, and so may a module that somebody put in the place of ours.
    """
    if torch.nn.modules.module._global_forward_hooks:
        return False
    return not any(
        module._forward_hooks or not type(module).__module__.startswith(("torch.nn.modules.", "backbones."))
        for module in conv.modules()
    )
